"""A gRPC server that scores prompts with a language model held as one compiled engine."""

"""The HTTP side: OpenAI's completions and vLLM's tokenizer endpoints ⇄ the contract's messages."""

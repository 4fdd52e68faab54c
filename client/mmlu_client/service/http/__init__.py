"""Servers that are asked over HTTP: OpenAI's completions, with vLLM's fields, and SGLang's own endpoint."""

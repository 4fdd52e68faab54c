"""What the server and the client both use: the tokenizer, the bundled checkpoint, and the command line."""

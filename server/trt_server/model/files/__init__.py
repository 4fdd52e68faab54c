"""A checkpoint's files: their configuration and weights read, checked, hashed and converted."""

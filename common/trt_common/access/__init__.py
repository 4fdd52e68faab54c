"""What lets a caller in: bearer tokens, and files that change while a program runs."""

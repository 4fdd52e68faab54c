"""What is made once and kept on the disk from one start of the server to the next."""

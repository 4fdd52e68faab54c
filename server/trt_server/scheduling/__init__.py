"""The queue of requests, the batches that are made of them, and the threads that own engines."""

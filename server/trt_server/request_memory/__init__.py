"""The memory that requests may take: how much is taken, and what a request is counted with."""

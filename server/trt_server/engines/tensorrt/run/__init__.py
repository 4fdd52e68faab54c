"""A plan on a device of this machine: its memory, its batches on their way, and the engine that runs them."""

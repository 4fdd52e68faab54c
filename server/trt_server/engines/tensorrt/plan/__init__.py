"""A plan: what it computes and for which shapes and devices, how it is built, and the cache that keeps it."""

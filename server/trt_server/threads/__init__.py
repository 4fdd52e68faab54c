"""Threads beside the event loop, and how they hand it what came of their work."""

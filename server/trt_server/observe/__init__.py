"""Metrics, logs, and the count of a prompt's floating-point operations."""

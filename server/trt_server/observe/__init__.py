"""Metrics, logs, and the share of a device's peak that work makes."""

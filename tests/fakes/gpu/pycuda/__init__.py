"""Stands in for pycuda, on host memory. See driver.py."""

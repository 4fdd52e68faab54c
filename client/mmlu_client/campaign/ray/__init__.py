"""Cells' runs on the machines of a Ray cluster. Nothing outside this folder imports Ray."""

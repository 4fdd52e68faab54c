"""The files in a run's folder: written and read here alone."""

"""One run, or a sweep of runs, from its start to its report."""

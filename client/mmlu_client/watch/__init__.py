"""What can be watched during a run: progress, Prometheus metrics, and the client's check of itself."""

"""What is seen while a campaign is on: on standard error, and in Prometheus."""

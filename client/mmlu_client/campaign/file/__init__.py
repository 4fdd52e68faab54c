"""FILE.yaml → what a campaign is."""

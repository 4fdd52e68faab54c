"""DIR → what came out of a campaign: rows, files, texts."""

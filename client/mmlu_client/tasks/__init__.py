"""Tasks of EleutherAI's lm-evaluation-harness: its own code makes prompts, targets and metrics of them."""

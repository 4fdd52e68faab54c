"""The commands of mmlu-client beside `run`, each with what it does."""

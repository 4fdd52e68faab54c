"""A model's sizes, from its config.json, and what its computation takes."""

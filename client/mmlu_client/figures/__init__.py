"""Records → figures, and how sure they are."""

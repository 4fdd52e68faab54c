"""`--data` → questions by subject, and their hash."""

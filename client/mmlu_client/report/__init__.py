"""Figures as text: for a terminal, in Markdown, and in the formats of other programs."""

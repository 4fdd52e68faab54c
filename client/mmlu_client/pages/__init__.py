"""Figures as HTML pages with charts."""

"""Searches for defects side by side."""

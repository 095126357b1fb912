"""Compiled sums over frames."""

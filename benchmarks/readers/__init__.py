"""Readers beside damaged files."""

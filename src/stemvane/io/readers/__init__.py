"""Readers, one for each family of files: from a file to a `Dataset4D`."""

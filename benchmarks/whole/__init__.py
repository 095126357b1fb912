"""Whole runs as a user waits for them, from the file to the figures, with the memory that they take."""

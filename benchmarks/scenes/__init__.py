"""Searches for defects in scans as they are recorded: contaminated, of several grains, with an edge, strained."""

"""Kinds of patterns in fields of several: `KindsModel` beside clusters of features that are smoothed over the scan."""

"""Polar and Cartesian grids, exact pixel overlaps, and the bright-field disc."""

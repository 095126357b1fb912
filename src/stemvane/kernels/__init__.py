"""Compiled kernels of the pass over the raw data: sums of counts, sums of any values, polar patterns."""

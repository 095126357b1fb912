"""Orientation of grains in nanobeam scans of polycrystals, beside the phase of the dominant harmonic."""

"""Rotation-aware analysis of 4D-STEM diffraction patterns."""

"""Generative models of rotated diffraction patterns."""

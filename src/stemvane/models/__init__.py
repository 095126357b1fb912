"""Generative models of turned diffraction patterns."""

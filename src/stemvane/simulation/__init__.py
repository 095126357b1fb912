"""Simulated 4D-STEM scans and the specimens in them."""

"""Comparisons with other programs and with known limits, each run from the repository: ``python -m benchmarks.…``."""

"""Run the comparison: ``python -m benchmarks.denoise``."""

from benchmarks.denoise.comparison import main

main()

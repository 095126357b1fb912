"""Run the comparison: ``python -m benchmarks.grains``."""

from benchmarks.grains.comparison import main

main()

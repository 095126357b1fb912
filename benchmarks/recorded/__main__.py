"""Run the comparison: ``python -m benchmarks.recorded``."""

from benchmarks.recorded.comparison import main

main()

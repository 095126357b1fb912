"""Run the comparison: ``python -m benchmarks.scenes``."""

from benchmarks.scenes.comparison import main

main()

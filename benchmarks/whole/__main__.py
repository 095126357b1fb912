"""Run the comparison: ``python -m benchmarks.whole``."""

from benchmarks.whole.comparison import main

main()

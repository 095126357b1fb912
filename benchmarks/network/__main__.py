"""Run the comparison: ``python -m benchmarks.network``."""

from benchmarks.network.comparison import main

main()

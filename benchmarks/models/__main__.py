"""Run the comparison: ``python -m benchmarks.models``."""

from benchmarks.models.comparison import main

main()

"""Run the comparison: ``python -m benchmarks.kinds``."""

from benchmarks.kinds.comparison import main

main()

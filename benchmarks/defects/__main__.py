"""Run the comparison: ``python -m benchmarks.defects``."""

from benchmarks.defects.comparison import main

main()

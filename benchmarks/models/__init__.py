"""Models side by side: ours, the one as published, other programs, and baselines."""

"""Where a specimen departs from its own pristine lattice."""

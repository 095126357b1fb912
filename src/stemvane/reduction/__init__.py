"""From raw patterns to measurements: survey, preparation, and one pass over the data."""

"""Features of patterns: circular harmonics, filtered over the scan and aligned."""

"""Scans as detectors record them: `stemvane run` with defaults beside a centre of mass that is prepared by hand."""

"""Files of detectors and other programs, read and written."""

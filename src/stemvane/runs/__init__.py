"""Folders of runs, sweeps and defect searches on disk."""

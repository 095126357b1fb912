"""Figures of measurements, embeddings, runs and defect searches; the only importer of matplotlib."""

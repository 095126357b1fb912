"""What flows through the analysis: data sets, calibrations, measurements, embeddings."""

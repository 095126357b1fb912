"""What an embedding is worth: agreement with the centre of mass, invariance, metrics."""

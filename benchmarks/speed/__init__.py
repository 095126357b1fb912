"""How fast scans are read, measured, simulated and trained on."""

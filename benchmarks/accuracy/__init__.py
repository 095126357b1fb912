"""How right the results are: seeds and doses, intervals, bounds, and slices of the simulation."""

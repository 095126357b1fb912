"""Where data come from: files, simulation, analytic patterns."""

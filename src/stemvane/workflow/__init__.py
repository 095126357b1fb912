"""The order of the stages, from a file or a simulation to a finished folder."""

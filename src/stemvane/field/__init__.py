"""The deflection of the beam as a vector field on the scan."""

"""The deflection of the beam as a vector field on the scan."""

from stemvane.field.derivatives import curl, divergence, gradient, turned
from stemvane.field.integration import integrate
from stemvane.field.maps import FieldMaps, field_maps, rotation_metrics, with_field
from stemvane.field.physical import momentum_velocity, projected_field, projected_potential
from stemvane.field.scan_rotation import ScanRotation, find_rotation

__all__ = [
    "FieldMaps",
    "ScanRotation",
    "curl",
    "divergence",
    "field_maps",
    "find_rotation",
    "gradient",
    "integrate",
    "momentum_velocity",
    "projected_field",
    "projected_potential",
    "rotation_metrics",
    "turned",
    "with_field",
]

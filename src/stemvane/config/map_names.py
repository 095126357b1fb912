"""Names of maps over the scan: those that are taken, and what a name of the user's may be."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["MAP_NAMES", "STANDARD_IMAGES", "find_name_trouble"]

STANDARD_IMAGES = ("bright_field", "annular_dark_field")
"""Virtual images that are measured by default."""

MAP_NAMES = (
    "total",
    "com_y",
    "com_x",
    *STANDARD_IMAGES,
    "com_filtered_y",
    "com_filtered_x",
    "com_filtered_std",
    "shared_potential",
    "shared_potential_std",
    "field_y",
    "field_x",
    "divergence",
    "curl",
    "integrated_com",
    "com_magnitude",
    "com_angle",
    "image",
    "angle",
    "angle_std",
    "deflection_angle",
    "deflection_angle_std",
    "log_evidence",
    "mean_pattern",
    "manifold",
    "polar",
    "angle_posterior",
    "kind",
    "kind_probability",
    "kind_patterns",
    "quantity",
    "quantity_std",
)
"""Names that maps and patterns of a run have, in its folder and in exports."""

# a path, a column's heading, and a word in a message alike
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_LATENT = re.compile(r"latent_(std_)?\d+")


def find_name_trouble(name: str, allowed: Collection[str] = ()) -> str:
    """Say why a virtual image cannot have a name, and what to do; nothing where it can.

    Parameters
    ----------
    name : str
        The name.
    allowed : collection of str
        Names of `MAP_NAMES` that it may have all the same.
    """
    cure = "choose another name, such as left_half"
    if not _PLAIN.fullmatch(name):
        return f"{name!r} cannot be the name of a map: give a letter, then letters, digits, _ or -; {cure}"
    if name.casefold() in set(MAP_NAMES) - set(allowed) or _LATENT.fullmatch(name.casefold()):
        return f"{name!r} is the name of another map; {cure}"
    return ""

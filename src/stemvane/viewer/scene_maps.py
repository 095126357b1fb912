"""Every map of a scan that the viewer offers, with title, unit and how it is coloured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.quantity_map import QuantityMap

__all__ = ["SceneMap", "maps_of_embedding", "maps_of_measurements", "maps_of_quantity", "vector_map"]

# title and kind of colours of the maps that `measure` makes
_MEASURED = {
    "annular_dark_field": ("Annular dark field", "image"),
    "bright_field": ("Bright field", "image"),
    "total": ("Total intensity", "image"),
    "com_y": ("COM along y", "signed"),
    "com_x": ("COM along x", "signed"),
    "com_filtered_y": ("Filtered COM along y", "signed"),
    "com_filtered_x": ("Filtered COM along x", "signed"),
    "com_filtered_std": ("Error of the filtered COM", "scalar"),
    "shared_potential": ("Shared potential", "signed"),
    "shared_potential_std": ("Error of the shared potential", "scalar"),
    "field_y": ("Field along y, scan frame", "signed"),
    "field_x": ("Field along x, scan frame", "signed"),
    "divergence": ("Divergence of the deflection", "signed"),
    "curl": ("Curl of the deflection", "signed"),
    "integrated_com": ("Integrated COM", "signed"),
}


@dataclass(frozen=True, eq=False)
class SceneMap:
    """A map over the scan.

    Attributes
    ----------
    name : str
        Short name, as in addresses and in Python.
    title : str
        Name for people.
    group : str
        Heading in the list of maps.
    unit : str
        Unit of the values.
    kind : str
        How it is coloured: ``image``, ``scalar``, ``signed``, ``angle``, ``vector`` or ``class``.
    values : ndarray, shape (scan_y, scan_x)
        Values; angles in rad; for a vector its direction.
    strength : ndarray, shape (scan_y, scan_x), optional
        Length of the vectors, in `unit`.
    period : float
        Angles that differ by this are the same.
    """

    name: str
    title: str
    group: str
    unit: str
    kind: str
    values: NDArray[Any]
    strength: NDArray[Any] | None = None
    period: float = 2 * math.pi

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of it besides its values; one of which nothing is known yet may vary."""
        shown = self.values if self.strength is None else self.strength
        known = shown[np.isfinite(shown)]
        varies = bool(known.size == 0 or known.min() < known.max())
        names = ("name", "title", "group", "unit", "kind", "period")
        return {name: getattr(self, name) for name in names} | {"varies": varies}


def vector_map(name: str, title: str, unit: str, vectors: NDArray[np.floating[Any]]) -> SceneMap:
    """Direction and length of vectors ``(y, x)``, minus their mean, shape ``(scan_y, scan_x, 2)``."""
    away = vectors - np.nanmean(vectors, axis=(0, 1))
    direction = np.arctan2(-away[..., 0], away[..., 1])
    return SceneMap(name, title, "Centre of mass", unit, "vector", direction, np.linalg.norm(away, axis=-1))


def maps_of_measurements(measurements: Measurements) -> Iterator[SceneMap]:
    """What was measured, directions and lengths first.

    Parameters
    ----------
    measurements : Measurements
        Measurements of a scan.

    Yields
    ------
    SceneMap
    """
    unit = measurements.com_unit
    yield vector_map("com", "COM", unit, measurements.com)
    filtered = measurements.filtered_deflection
    if filtered is not None:
        yield vector_map("com_filtered", "Filtered COM", unit, filtered)
    yield SceneMap("com_magnitude", "|COM|", "Centre of mass", unit, "scalar", measurements.com_magnitude)
    yield SceneMap("com_angle", "COM angle", "Centre of mass", "rad", "angle", measurements.com_angle)
    if measurements.image is not None:
        yield SceneMap("image", "Image recorded with the scan", "Images", "", "image", measurements.image)
    order = [name for name in _MEASURED if name in measurements.maps]
    for name in [*order, *(name for name in measurements.maps if name not in _MEASURED)]:
        title, kind = _MEASURED.get(name, (name.replace("_", " "), "image"))
        group = "Images" if kind == "image" else "Centre of mass"
        yield SceneMap(name, title, group, measurements.units[name], kind, np.asarray(measurements.maps[name]))


def maps_of_embedding(embedding: Embedding) -> Iterator[SceneMap]:
    """What a model says of every position.

    Parameters
    ----------
    embedding : Embedding
        Latents and angles of a scan.

    Yields
    ------
    SceneMap
    """
    learned = "Learned"
    if embedding.kind is not None and embedding.kind_probability is not None:
        yield SceneMap("kind", "Kind", learned, "", "class", np.where(embedding.kind >= 0, embedding.kind, np.nan))
        likeliest = np.asarray(embedding.kind_probability).max(axis=-1)
        yield SceneMap("kind_probability", "Probability of the kind", learned, "", "scalar", likeliest)
    if np.isfinite(embedding.angle).any():
        period = 2 * math.pi / embedding.symmetry
        yield SceneMap("angle", "Rotation", learned, "rad", "angle", embedding.angle, period=period)
    for k in range(embedding.n_latent):
        unit = embedding.latent_unit
        yield SceneMap(f"latent_{k + 1}", f"Latent {k + 1}", learned, unit, "signed", embedding.latents[..., k])
    if np.isfinite(embedding.angle_std).any():
        uncertain = np.where(np.isfinite(embedding.angle_std), embedding.angle_std, np.nan)
        yield SceneMap("angle_std", "Uncertainty of the rotation", learned, "rad", "scalar", uncertain)
    if embedding.deflection_angle is not None:
        title = "Direction of the COM, filtered"
        yield SceneMap("deflection_angle", title, learned, "rad", "angle", embedding.deflection_angle)
    if embedding.deflection_angle_std is not None and np.isfinite(embedding.deflection_angle_std).any():
        uncertain = np.where(np.isfinite(embedding.deflection_angle_std), embedding.deflection_angle_std, np.nan)
        yield SceneMap("deflection_angle_std", "Uncertainty of that direction", learned, "rad", "scalar", uncertain)
    for k in range(embedding.n_latent):
        spread = embedding.latent_std[..., k]
        if np.isfinite(spread).any():
            name, title = f"latent_std_{k + 1}", f"Uncertainty of latent {k + 1}"
            yield SceneMap(name, title, learned, embedding.latent_unit, "scalar", spread)
    if np.isfinite(embedding.log_evidence).any():
        yield SceneMap("log_evidence", "Log evidence", learned, "nat", "scalar", embedding.log_evidence)


def maps_of_quantity(quantity: QuantityMap | None) -> Iterator[SceneMap]:
    """A quantity and its uncertainty; nothing where none is known.

    Parameters
    ----------
    quantity : QuantityMap or None
        The quantity.

    Yields
    ------
    SceneMap
    """
    if quantity is not None:
        name, unit = quantity.name, quantity.unit
        yield SceneMap("quantity", name[:1].upper() + name[1:], "Learned", unit, "scalar", quantity.mean)
        yield SceneMap("quantity_std", f"Uncertainty of the {name}", "Learned", unit, "scalar", quantity.std)

"""Content of patterns that known maps account for, which is taken out of their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.features.alignment import likeliest_angles
from stemvane.features.cross_correlation import best_angles
from stemvane.features.harmonics import rotate_features

__all__ = ["Conditions", "condition_values"]

_N_ROUNDS = 20
# of the template's part that the last rounds change
_SETTLED = 1e-4

Features = NDArray[np.complexfloating[Any, Any]]


def condition_values(
    measurements: Measurements, names: tuple[str, ...], mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Values of maps at the positions of a mask.

    Parameters
    ----------
    measurements : Measurements
        A scan.
    names : tuple of str
        Names of its maps; ``image`` is the one that was recorded with the scan.
    mask : ndarray of bool, shape (scan_y, scan_x)
        True at the positions.

    Returns
    -------
    ndarray of float, shape (n_patterns, n_maps)

    Raises
    ------
    DataError
        If there is no such map, or it is unknown at a position.
    """
    columns = []
    for name in names:
        values = measurements.image if name == "image" else measurements.maps.get(name)
        if values is None:
            known = ", ".join([*sorted(measurements.maps), *(["image"] if measurements.image is not None else [])])
            raise DataError(f"there is no map '{name}' to take as a condition; model.conditions may name {known}")
        if np.shape(values) != mask.shape:
            raise DataError(
                f"the map '{name}' has the shape {np.shape(values)}, the scan {mask.shape}; give a value per position"
            )
        column = np.asarray(values, np.float64)[mask]
        n_unknown = int(np.count_nonzero(~np.isfinite(column)))
        if n_unknown:
            raise DataError(
                f"the map '{name}' is unknown at {n_unknown} of {len(column)} positions, so it can be no condition "
                "there; leave them out with mask, or name another map in model.conditions"
            )
        columns.append(column)
    return np.stack(columns, axis=1) if columns else np.zeros((int(mask.sum()), 0))


@dataclass(frozen=True, eq=False)
class Conditions:
    """How the content of a pattern at angle 0 depends on known maps.

    The content is ``template + terms @ weights``, where the terms are the values of every map, in standard deviations
    from their mean, and their squares, less the mean square.

    Attributes
    ----------
    names : tuple of str
        Names of the maps.
    centre, spread : ndarray of float, shape (n_maps,)
        Mean and standard deviation of each map over the training patterns.
    template : ndarray of complex64, shape (n_features,)
        Content where the terms are 0.
    weights : ndarray of complex64, shape (2 n_maps, n_features)
        Content that a unit of each term adds.
    n_angles : int
        Angles that are tried before the best one is refined.
    """

    names: tuple[str, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    template: NDArray[np.complex64]
    weights: NDArray[np.complex64]
    n_angles: int

    @classmethod
    def fit(
        cls,
        names: tuple[str, ...],
        values: NDArray[np.float64],
        features: Features,
        orders: NDArray[np.int64],
        config: AlignConfig,
    ) -> Conditions:
        """Find the content that goes with the maps; angles and content are found in turn until neither moves.

        Parameters
        ----------
        names : tuple of str
            Names of the maps.
        values : ndarray of float, shape (n_patterns, n_maps)
            From `condition_values`.
        features : ndarray of complex, shape (n_patterns, n_features)
            Features of the same patterns.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.
        config : AlignConfig
            Grid and starts of the alignment.

        Returns
        -------
        Conditions

        Raises
        ------
        DataError
            If a map is the same everywhere, or a sum of others.
        """
        spread = values.std(axis=0)
        for name, of_map, largest in zip(names, spread, np.abs(values).max(axis=0), strict=True):
            if not of_map > 1e-9 * largest:
                raise DataError(f"the map '{name}' is the same everywhere; name another one in model.conditions")
        centre = values.mean(axis=0)
        terms = np.column_stack([np.ones(len(values), np.float32), _terms(values, centre, spread)])
        # the square of a map of two values says nothing new, and gets no weight of its own
        if np.linalg.matrix_rank(terms[:, : len(names) + 1]) <= len(names):
            raise DataError("maps of model.conditions follow from each other; name fewer of them")
        solve = np.linalg.pinv(terms).astype(np.float32)
        angle = likeliest_angles(features, orders, config)
        content = solve @ rotate_features(features, orders, -angle)
        for _ in range(_N_ROUNDS):
            before = content
            angle = best_angles(features, terms @ before, orders, config.n_angles)
            content = solve @ rotate_features(features, orders, -angle)
            if np.linalg.norm(content - before) <= _SETTLED * np.linalg.norm(content):
                break
        return cls(names, centre, spread, content[0], content[1:], config.n_angles)

    def of(self, features: Features, values: NDArray[np.float64], orders: NDArray[np.int64]) -> NDArray[np.complex64]:
        """What the maps account for in each pattern, rotated to its angle.

        Parameters
        ----------
        features : ndarray of complex, shape (n_patterns, n_features)
            Features of the patterns, which tell the angle.
        values : ndarray of float, shape (n_patterns, n_maps)
            Values of the maps there.
        orders : ndarray of int, shape (n_features,)
            Circular order of each feature.

        Returns
        -------
        ndarray of complex64, shape (n_patterns, n_features)
        """
        if not len(features):
            return np.zeros(features.shape, np.complex64)
        content = _terms(values, self.centre, self.spread) @ self.weights
        angle = best_angles(features, self.template + content, orders, self.n_angles)
        return rotate_features(content, orders, angle)


def _terms(
    values: NDArray[np.float64], centre: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Terms that values of the maps stand for, shape ``(n_patterns, 2 n_maps)``."""
    standard = (values - centre) / spread
    return np.concatenate([standard, standard**2 - 1], axis=1).astype(np.float32)

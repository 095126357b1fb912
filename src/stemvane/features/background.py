"""The background of a basis: the mean pattern or, beyond the direct beam, its means over the rings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemvane.config import AlignConfig, BasisConfig
from stemvane.data.measurements import Measurements
from stemvane.features.alignment import unexplained_power
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.pattern_statistics import PatternStatistics

__all__ = ["fit_basis"]

_MOST_PATTERNS = 1024
# which of two backgrounds is better shows long before no angle moves any more
_TRIAL = AlignConfig(n_iterations=20)


def fit_basis(
    measurements: Measurements,
    config: BasisConfig | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    mirrored: bool = False,
) -> HarmonicBasis:
    """Fit a basis, and choose its background where patterns differ on dark rings.

    The mean pattern of a few grains has an orientation, which belongs to the largest of them and not to a background:
    taken off, it is missing in these grains and too much in all others, and turns their angles. A fixed crystal below
    grains has an orientation that is the background's. So patterns are aligned with either background. The one without
    an orientation is kept unless the other's leaves so much less unexplained that its coordinates, as many as a
    pattern has, are worth half the logarithm of the number of patterns each (the Bayesian information criterion;
    Schwarz, Ann. Statist. 6, 461, 1978).

    Parameters, returns and errors are as of `HarmonicBasis.fit`; `mirrored` as of `HarmonicBasis.of`.
    """
    config = config or BasisConfig()
    statistics = PatternStatistics.of(measurements, config.variance_floor, mask)
    basis = HarmonicBasis.of(statistics, config, mirrored=mirrored)
    if config.background != "auto" or not basis.own_noise:
        return basis
    features = basis.features(measurements, mask)
    features = features[:: math.ceil(len(features) / _MOST_PATTERNS)]
    rings = HarmonicBasis.of(statistics, config.model_copy(update={"background": "rings"}), mirrored=mirrored)
    taken = (basis.background - rings.background)[basis.orders]
    oriented = np.einsum("kr,kr->k", basis.analysis, taken).astype(np.complex64)
    with_mean, with_rings = (unexplained_power(part, basis.orders, _TRIAL) for part in (features, features + oriented))
    n = len(features)
    return rings if with_rings <= with_mean * (1 + math.log(n) / n) else basis

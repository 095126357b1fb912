"""What a model leaves unexplained of every pattern."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Misfit"]


class Misfit(NamedTuple):
    """What a model leaves unexplained of every pattern.

    ``1 - residual.sum() / total.sum()`` is the explained variance.

    Attributes
    ----------
    residual : ndarray of float, shape (scan_y, scan_x)
        Squared length of the difference between a pattern and its reconstruction, in units of counting noise; NaN
        where nothing was recorded.
    total : ndarray of float, shape (scan_y, scan_x)
        Squared length of the difference between a pattern and the background, in the same units.
    """

    residual: NDArray[np.float64]
    total: NDArray[np.float64]

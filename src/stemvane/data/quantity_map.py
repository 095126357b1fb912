"""QuantityMap: a continuous quantity at every position, from a few where it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import stats

from stemvane.data.representation import Representable, Row
from stemvane.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["QuantityMap"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class QuantityMap(Representable):
    """A quantity at every position, as a distribution of Student's t.

    Attributes
    ----------
    mean, std : ndarray of float, shape (scan_y, scan_x)
        Its expectation and standard deviation; NaN where there is no pattern.
    freedom : int
        Degrees of freedom.
    known : Mapping of (int, int) to float
        What it was found from.
    explained : float
        Share of the variance of the known values that is predicted where each is left out; 0 or less where latents do
        not tell the quantity.
    name, unit : str
        What it is, and its unit, for figures and exports.
    scan_step : tuple of float, optional
        Å ``(y, x)``, for the scale bar.
    """

    mean: Doubles
    std: Doubles
    freedom: int
    known: Mapping[tuple[int, int], float]
    explained: float
    name: str = "quantity"
    unit: str = ""
    scan_step: tuple[float, float] | None = None

    def interval(self, level: float = 0.95) -> tuple[Doubles, Doubles]:
        """Limits between which the quantity lies with a probability.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1.

        Returns
        -------
        low, high : ndarray of float, shape (scan_y, scan_x)

        Raises
        ------
        DataError
            If the level is no probability.
        """
        if not 0 < level < 1:
            raise DataError(f"an interval of the level {level}; give a probability between 0 and 1, such as 0.95")
        scale = self.std * math.sqrt((self.freedom - 2) / self.freedom)
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * scale
        return self.mean - half, self.mean + half

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [
            ("known", f"at {len(self.known)} positions, {min(self.known.values()):.4g} to "
                      f"{max(self.known.values()):.4g} {self.unit}".rstrip()),
            ("found", f"{np.nanmin(self.mean):.4g} to {np.nanmax(self.mean):.4g} {self.unit}".rstrip()),
            ("uncertain by", f"{np.nanmedian(self.std):.3g} {self.unit}".rstrip() + " (median)"),
            ("predicted", f"{100 * max(self.explained, 0):.0f} % of the variance of known values that are left out"),
        ]  # fmt: skip
        return f"Quantity map of the {self.name}", rows

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the map, with the positions where it was known.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; new ones where left out.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from stemvane.figures.quantity_panel import draw_quantity

        return draw_quantity(self, ax=ax)

    def write(self, group: zarr.Group) -> None:
        """Write ``quantity`` and ``quantity_std`` into a Zarr group."""
        known = [[y, x, value] for (y, x), value in self.known.items()]
        attributes: dict[str, Any] = {
            "unit": self.unit,
            "name": self.name,
            "freedom": self.freedom,
            "known": known,
            "explained": self.explained,
        }
        group.create_array("quantity", data=self.mean, overwrite=True, attributes=attributes)
        group.create_array("quantity_std", data=self.std, overwrite=True, attributes={"unit": self.unit})

    @classmethod
    def read(cls, group: zarr.Group, scan_step: tuple[float, float] | None = None) -> QuantityMap | None:
        """Read what `write` wrote; None where there is nothing."""
        if "quantity" not in group:
            return None
        mean, std = (np.asarray(group[name][...], np.float64) for name in ("quantity", "quantity_std"))  # type: ignore[index]
        attributes: Any = group["quantity"].attrs
        known = {(int(y), int(x)): float(value) for y, x, value in attributes["known"]}
        freedom, explained = int(attributes["freedom"]), float(attributes["explained"])
        name, unit = str(attributes["name"]), str(attributes["unit"])
        return cls(mean, std, freedom, known, explained, name, unit, scan_step)

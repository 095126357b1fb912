"""ScanAtoms and ScanDefects: what a simulated specimen is made of, in the coordinates of the scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemvane.data.representation import Representable, Row
from stemvane.errors import DataError

__all__ = ["ScanAtoms", "ScanDefects"]


@dataclass(frozen=True, eq=False, repr=False)
class ScanDefects(Representable):
    """Defects of a simulated specimen: the truth that a search for them is scored by.

    Parameters
    ----------
    kinds : tuple of str
        One word for each of n defects, such as ``"N"`` or ``"stone-wales"``; `stemvane structures` lists them.
    positions : ndarray of float, shape (n, 2)
        Centres ``(y, x)`` in Å; the first probe position is the origin, y grows downwards.
    angles : ndarray of float, shape (n,)
        Angle (rad) by which each is rotated from the stored geometry, counter-clockwise on the screen.
    mirrored : ndarray of bool, shape (n,)
        True where the stored geometry was turned over before it was rotated, about the screen's horizontal: y → −y and
        z → −z. What stands up from the sheet hangs down then.
    sites : ndarray of float, shape (m, 2)
        Ideal lattice positions ``(y, x)`` in Å of the atoms that are substituted, removed or rotated. Where a silicon
        atom takes the place of two carbon atoms both are listed.
    owners : ndarray of int, shape (m,)
        Index of the defect that each site belongs to.
    """

    kinds: tuple[str, ...]
    positions: NDArray[np.float64]
    angles: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    sites: NDArray[np.float64]
    owners: NDArray[np.int64]

    def __post_init__(self) -> None:
        n, m = len(self.kinds), len(self.owners)
        shapes = {"positions": (n, 2), "angles": (n,), "mirrored": (n,), "sites": (m, 2)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise DataError(
                    f"{n} defects on {m} sites: {name} has shape {np.shape(getattr(self, name))}; give shape {shape}"
                )
        if m and not (np.min(self.owners) >= 0 and np.max(self.owners) < n):
            raise DataError(f"owners of the sites must be indices of the {n} defects, 0 to {n - 1}")

    def __len__(self) -> int:
        return len(self.kinds)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [("kinds", _count(self.kinds)), ("lattice sites", f"{len(self.owners)}")]
        return f"ScanDefects: {len(self)} defects", rows

    def move(self, by: NDArray[np.float64]) -> ScanDefects:
        """Return the same defects at positions ``(y, x)`` that are larger by `by`, Å."""
        return replace(self, positions=self.positions + by, sites=self.sites + by)


@dataclass(frozen=True, eq=False, repr=False)
class ScanAtoms(Representable):
    """Atoms of a simulated specimen in the coordinates of the scan.

    Parameters
    ----------
    numbers : ndarray of int, shape (n,)
        Atomic numbers.
    positions : ndarray of float, shape (n, 2)
        Positions ``(y, x)`` in the plane in Å; the first probe position is the origin, y grows downwards.
    heights : ndarray of float, shape (n,)
        Positions along the beam in Å.
    labels : tuple of str, optional
        What each atom belongs to, one word per atom, where the source knows it: the kind of its defect, or the host.
    defects : ScanDefects, optional
        The defects, where the source knows them; a perfect sheet has an empty list of them.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    heights: NDArray[np.float64]
    labels: tuple[str, ...] | None = None
    defects: ScanDefects | None = None

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if np.shape(self.positions) != (n, 2) or np.shape(self.heights) != (n,):
            raise DataError(f"{n} atoms need positions of shape ({n}, 2) and heights of shape ({n},)")
        if self.labels is not None and len(self.labels) != n:
            raise DataError(f"{n} atoms need as many labels, not {len(self.labels)}")

    def _summary(self) -> tuple[str, Sequence[Row]]:
        rows = [("atomic numbers", _count(self.numbers.tolist()))]
        for name, values in (("y", self.positions[:, 0]), ("x", self.positions[:, 1]), ("height", self.heights)):
            if len(values):
                rows.append((name, f"{values.min():.4g} to {values.max():.4g} Å"))
        rows.append(("defects", "unknown" if self.defects is None else _count(self.defects.kinds)))
        return f"ScanAtoms: {len(self.numbers)} atoms", rows

    def move(self, by: NDArray[np.float64]) -> ScanAtoms:
        """Return the same atoms and defects at positions ``(y, x)`` that are larger by `by`, Å."""
        defects = None if self.defects is None else self.defects.move(by)
        return replace(self, positions=self.positions + by, defects=defects)


def _count(words: Iterable[object]) -> str:
    """How many there are of each, such as ``6: 120, 14: 1``."""
    return ", ".join(f"{word}: {n}" for word, n in sorted(Counter(words).items(), key=str)) or "none"

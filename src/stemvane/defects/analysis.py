"""What a search for defects gives: the lattice, every site with its p-value, and the defects with their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row, format_count, format_quantity, format_shape
from stemvane.defects.atoms import AtomContent
from stemvane.defects.kinds import DefectKinds
from stemvane.defects.lattice import Lattice
from stemvane.defects.naming import Naming
from stemvane.defects.sites import Sites
from stemvane.errors import DataError
from stemvane.segmentation import Regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DefectAnalysis", "Defects"]


@dataclass(frozen=True, eq=False, repr=False)
class Defects(Representable):
    """The defects that a search reports.

    Attributes
    ----------
    positions : ndarray of float, shape (n_defects, 2)
        Centres ``(y, x)`` in Å, the strongest first.
    p : ndarray of float, shape (n_defects,)
        Smallest p-value of their sites.
    excess : ndarray of float, shape (n_defects, n_orders)
        Sum over their atoms of what exceeds the pristine lattice, in atoms, by circular order.
    sublattice : ndarray of int, shape (n_defects,)
        Sublattice of the most anomalous site of each.
    kinds : DefectKinds
        Kind and rotation of each.
    patterns : ndarray of float, shape (n_kinds, n_radial, n_azimuthal)
        What each kind adds to the polar pattern recorded at its centre, rotated to the orientation of its first defect
        and averaged over the kind.
    naming : Naming or None
        Names of the kinds, where a library was given.
    lattice : ndarray of int, shape (n_defects,)
        Number of the lattice that each is a defect of, from 0.
    """

    positions: NDArray[np.float64]
    p: NDArray[np.float64]
    excess: NDArray[np.float64]
    sublattice: NDArray[np.int64]
    kinds: DefectKinds
    patterns: NDArray[np.float64]
    naming: Naming | None = None
    lattice: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.p)

    def _summary(self) -> tuple[str, Sequence[Row]]:
        """One row for each kind."""
        n_kinds = self.kinds.n_kinds
        title = f"{format_count(len(self), 'defect')} of {format_count(n_kinds, 'kind')}"
        return title, [self._row(kind) for kind in range(n_kinds)]

    def _row(self, kind: int) -> Row:
        members = self.kinds.kind == kind
        name = ""
        if self.naming is not None:
            name = f"{self.naming.kind_names[kind]} ({self.naming.kind_probabilities[kind].max():.0%}), "
        excess = " and ".join(f"{value:+.2f}" for value in self.excess[members, :2].mean(axis=0))
        count = format_count(int(members.sum()), "defect")
        return f"kind {kind + 1}", f"{name}{count}, excess {excess} atoms in orders 0 and 1"


@dataclass(frozen=True, eq=False, repr=False)
class DefectAnalysis(Representable):
    """The result of `find_defects`.

    Attributes
    ----------
    lattice : Lattice or None
        The lattice that fills most of the scan; None where there is none, and `anomaly` and `regions` alone are given.
    anomaly : ndarray of float, shape (scan_y, scan_x)
        How far every pattern, averaged with those around it, departs from the pristine lattice (from the mean pattern
        where there is no lattice), in standard deviations; NaN where a scan that has lattices has none.
    sites : Sites
        Atoms and hollows of all lattices, sublattices numbered on from one lattice to the next.
    p, q : ndarray of float, shape (n_sites,)
        The p-value of all channels together, and the false discovery rate at which it would be a discovery.
    channels : dict of str to ndarray of float, shape (n_sites,)
        The p-values of each channel.
    content : AtomContent
        How much more of an atom each site holds than in the pristine lattice.
    winding : ndarray of float, shape (n_sites,)
        Winding number of the rotation map around each site.
    fold_symmetry : dict of int to ndarray of float, shape (n_sites,)
        Share of the variation of latents and angle around each site that a rotation by 360° / n leaves unchanged.
    bond_winding : float
        Mean winding number at the middles of the bonds.
    owner : ndarray of int, shape (n_sites,)
        Defect that each site belongs to, -1 for none.
    defects : Defects
        The defects at the false discovery rate of the settings.
    regions : Regions or None
        Groups of patterns, where there is no lattice.
    measurements : Measurements or None
        Measurements that were searched, for figures.
    embedding : Embedding or None
        Embedding that was searched, for figures.
    lattices : tuple of Lattice
        All lattices of the scan, the one that fills most of it first.
    lattice_map : ndarray of int, shape (scan_y, scan_x), or None
        Number of the lattice that each position follows, from 0; -1 for none. None where there is no lattice.
    is_searched : ndarray of bool, shape (scan_y, scan_x), or None
        Positions at which a defect would have been reported: on a lattice, and beyond the reach of what is none.
    site_lattice : ndarray of int, shape (n_sites,)
        Number of each site's lattice.
    findings : tuple of Finding
        What makes the search doubtful, beside what the scan's verdict says.
    """

    lattice: Lattice | None
    anomaly: NDArray[np.float64]
    sites: Sites | None = None
    p: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    q: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    channels: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    content: AtomContent | None = None
    winding: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fold_symmetry: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    bond_winding: float = np.nan
    owner: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    defects: Defects | None = None
    regions: Regions | None = None
    measurements: Measurements | None = None
    embedding: Embedding | None = None
    lattices: tuple[Lattice, ...] = ()
    lattice_map: NDArray[np.int64] | None = None
    is_searched: NDArray[np.bool_] | None = None
    site_lattice: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    findings: tuple[Finding, ...] = ()

    @property
    def share_searched(self) -> float:
        """Share of the recorded field in which a defect would have been reported."""
        if self.is_searched is None:
            return 0.0
        recorded = np.isfinite(self.anomaly) if self.measurements is None else self.measurements.recorded
        return float(self.is_searched[recorded].mean())

    def plot(self, *, figure: Figure | None = None) -> Figure:
        """Draw dark field, anomaly, rotation and latents, and the kinds of defects or, without a lattice, the groups.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw the page into; a new one where left out.

        Returns
        -------
        matplotlib.figure.Figure
            The page.

        Raises
        ------
        DataError
            If the analysis holds no measurements or no embedding.
        """
        from stemvane.figures.canvas import shown_figure
        from stemvane.figures.defects_page import defects_page

        if self.measurements is None or self.embedding is None:
            raise DataError("the analysis holds no measurements and embedding to draw; use the result of find_defects")
        return defects_page(self.measurements, self.embedding, self, figure=shown_figure(figure))

    def _summary(self) -> tuple[str, Sequence[Row]]:
        """The lattice and one row for each kind, or the groups of patterns."""
        scan: Row = "scan", f"{format_shape(self.anomaly.shape)} positions"
        if self.lattice is None or self.sites is None or self.defects is None:
            n_groups = 0 if self.regions is None else self.regions.n_groups
            groups = f"{format_count(n_groups, 'group')} of patterns"
            return "Defect analysis: no lattice", [scan, ("groups", groups)]
        n_atoms = int(self.sites.is_atom.sum())
        title, kinds = self.defects._summary()
        lengths = np.linalg.norm(self.lattice.vectors, axis=1)
        more = f", and {format_count(len(self.lattices) - 1, 'other')}" if len(self.lattices) > 1 else ""
        return f"Defect analysis: {title}", [
            ("scan", f"{format_shape(self.anomaly.shape)} positions, {100 * self.share_searched:.0f} % searched"),
            ("lattice", format_quantity(lengths.tolist(), "Å") + more),
            ("sites", f"{n_atoms} atoms, {len(self.sites) - n_atoms} hollows"),
            *kinds,
        ]

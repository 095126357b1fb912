"""Embedding: what a model says of every probe position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import special

from stemvane.data.representation import Representable, Row, format_shape
from stemvane.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Embedding"]

_MAPS = ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence")
_OF_COM = ("deflection_angle", "deflection_angle_std")
_OF_KINDS = ("kind_probability", "kind_patterns")


@dataclass(frozen=True, eq=False, repr=False)
class Embedding(Representable):
    """Latents and angle of every probe position, with their uncertainties; NaN where a mask left a position out.

    Attributes
    ----------
    latents : ndarray of float, shape (scan_y, scan_x, n_latent)
        Posterior means.
    latent_std : ndarray of float, shape (scan_y, scan_x, n_latent)
        Posterior standard deviations.
    angle : ndarray of float, shape (scan_y, scan_x)
        Most likely rotation in rad, counter-clockwise on the screen, in (-π, π].
    angle_std : ndarray of float, shape (scan_y, scan_x)
        Circular standard deviation of the angle's posterior in rad, modulo ``2 π / symmetry``; infinite where every
        direction is as likely.
    angle_posterior : ndarray of float, shape (scan_y, scan_x, n_angles)
        Probability of each grid angle ``2 π j / n_angles``; sums to 1.
    log_evidence : ndarray of float, shape (scan_y, scan_x)
        Lower bound of the log likelihood of each pattern, as estimated with its neighbours, in nats.
    scan_step : tuple of float, optional
        Å ``(y, x)``, for the scale bars of figures; None where it is unknown.
    latent_unit : str
        Unit of the latents, for the labels of figures; empty where it is unknown.
    uses_neighbours : bool
        Whether each position was estimated from the patterns of its neighbours, too.
    symmetry : int
        Rotational symmetry of the content: angles that differ by ``2 π / symmetry`` are the same.
    deflection_angle, deflection_angle_std : ndarray of float, shape (scan_y, scan_x), optional
        Direction of the COM in rad, filtered over the scan where the measurements have that, and its circular standard
        deviation: another quantity than `angle`, which is that of the content. None where it is not known.
    kind_probability : ndarray of float, shape (scan_y, scan_x, n_kinds + 1), optional
        Probability of each kind, and last of none of them; None in a model without kinds. Angle and latents are those
        of the likeliest kind.
    kind_names : tuple of str
        Name of each kind.
    kind_symmetry : tuple of int
        Rotational symmetry of each kind, modulo which its angles are known.
    kind_patterns : ndarray of float, shape (n_kinds, k_y, k_x), optional
        Pattern of each kind at the angle 0 with latents of 0, as intensity per detector pixel.
    """

    latents: NDArray[np.floating[Any]]
    latent_std: NDArray[np.floating[Any]]
    angle: NDArray[np.floating[Any]]
    angle_std: NDArray[np.floating[Any]]
    angle_posterior: NDArray[np.floating[Any]]
    log_evidence: NDArray[np.floating[Any]]
    scan_step: tuple[float, float] | None = field(default=None, kw_only=True)
    latent_unit: str = field(default="", kw_only=True)
    uses_neighbours: bool = field(default=False, kw_only=True)
    symmetry: int = field(default=1, kw_only=True)
    deflection_angle: NDArray[np.floating[Any]] | None = field(default=None, kw_only=True)
    deflection_angle_std: NDArray[np.floating[Any]] | None = field(default=None, kw_only=True)
    kind_probability: NDArray[np.floating[Any]] | None = field(default=None, kw_only=True)
    kind_names: tuple[str, ...] = field(default=(), kw_only=True)
    kind_symmetry: tuple[int, ...] = field(default=(), kw_only=True)
    kind_patterns: NDArray[np.floating[Any]] | None = field(default=None, kw_only=True)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Numbers of probe positions ``(scan_y, scan_x)``."""
        rows, columns = self.angle.shape
        return rows, columns

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides the angle."""
        return int(self.latents.shape[-1])

    @property
    def kind(self) -> NDArray[np.int64] | None:
        """Number of the likeliest kind from 1, 0 for none, -1 without a pattern; None in a model without kinds."""
        if self.kind_probability is None:
            return None
        known = np.isfinite(self.kind_probability).all(axis=-1)
        p = np.where(known[..., None], self.kind_probability, 0.0)
        number = (p.argmax(axis=-1) + 1) % p.shape[-1]
        return np.asarray(np.where(known, number, -1), np.int64)

    @property
    def n_peaks(self) -> NDArray[np.int64]:
        """Number of peaks of each angle posterior, shape ``(scan_y, scan_x)``.

        Peaks count where they reach half of the highest and twice the uniform probability: a pattern of s-fold
        symmetry has s of them, a pattern without a direction none.
        """
        p = self.angle_posterior
        level = np.maximum(0.5 * p.max(axis=-1, keepdims=True), 2.0 / p.shape[-1])
        peak = (p >= np.roll(p, 1, axis=-1)) & (p > np.roll(p, -1, axis=-1)) & (p >= level)
        return np.asarray(peak.sum(axis=-1), np.int64)

    def plot(self, what: str = "overview", ax: Axes | None = None, *, figure: Figure | None = None) -> Axes | Figure:
        """Draw the rotation and the latents.

        Parameters
        ----------
        what : str
            ``overview`` for a page with everything, ``kinds`` for a page of these in a model that has them, or a single
            panel: ``angle``, ``angle_std``, ``deflection_angle`` where that of the COM is known, ``kind``, ``latent 1``
            and so on, ``latents`` for the plane of the first two, or ``log_evidence``.
        ax : matplotlib.axes.Axes, optional
            Axes to draw a panel into; those of a new figure where left out.
        figure : matplotlib.figure.Figure, optional
            Empty figure to draw the page into; a new one where left out.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            The panel, or the page.

        Raises
        ------
        DataError
            If there is nothing of that name, or axes are given for the page.
        """
        from stemvane.figures.canvas import shown_figure
        from stemvane.figures.embedding_panels import draw_embedding, embedding_page
        from stemvane.figures.kinds_page import kinds_page

        if what not in ("overview", "kinds"):
            return draw_embedding(self, what, ax)
        if ax is not None:
            raise DataError("the overview is a page of several panels; name one panel for these axes, such as 'angle'")
        page = embedding_page if what == "overview" else kinds_page
        return page(self, figure=shown_figure(figure))

    def angle_interval(self, level: float = 0.68) -> NDArray[np.float64]:
        """Half width of the arc around each angle that holds a share of its posterior.

        Parameters
        ----------
        level : float
            The share, between 0 and 1.

        Returns
        -------
        ndarray of float, shape (scan_y, scan_x)
            Half width in rad, of one of as many arcs as the symmetry has; NaN where a mask left a position out.
        """
        n_angles = self.angle_posterior.shape[-1]
        grid = 2 * np.pi * np.arange(n_angles) / n_angles
        p = self.angle_posterior.astype(float)
        away = np.abs(np.angle(np.exp(1j * self.symmetry * (grid - self.angle[..., None].astype(float)))))
        away /= self.symmetry
        order = np.argsort(away, axis=-1)
        away, p = (np.take_along_axis(values, order, axis=-1) for values in (away, p))
        # half of a cell's probability lies within its centre
        held = np.cumsum(p, axis=-1) - p / 2
        after = np.clip((held < level).sum(axis=-1, keepdims=True), 1, n_angles - 1)
        (low, high), (start, end) = (
            [np.take_along_axis(values, after - 1 + i, axis=-1)[..., 0] for i in (0, 1)] for values in (held, away)
        )
        share = np.clip((level - low) / np.maximum(high - low, 1e-12), 0, 1)
        on_grid = start + share * (end - start)
        # an arc of hardly more than a cell shows better in the standard deviation
        narrow = self.angle_std * special.ndtri((1 + level) / 2)
        wide = np.minimum(on_grid, np.pi / self.symmetry)
        return np.asarray(np.where(self.angle_std < 3 * np.pi / n_angles, narrow, wide))

    def _summary(self) -> tuple[str, Sequence[Row]]:
        ranges = [
            f"{np.min(z):+.3g} to {np.max(z):+.3g}" if len(z) else "none"
            for z in (self.latents[..., k][np.isfinite(self.latents[..., k])] for k in range(self.n_latent))
        ]
        valid = np.isfinite(self.angle)
        spread, evidence = np.degrees(self.angle_std[valid]), self.log_evidence[np.isfinite(self.log_evidence)]
        n_valid, n_all = int(valid.sum()), valid.size
        fold = f", modulo {360 / self.symmetry:g} deg" if self.symmetry > 1 else ""
        rows = [
            ("scan", f"{format_shape(self.scan_shape)} positions"),
            ("embedded", f"{n_valid} of {n_all} positions" if n_valid < n_all else "all positions"),
            ("latents", f"{self.n_latent}" + (f": {'; '.join(ranges[:6])}" if ranges else "")),
            ("angle", f"uncertain by {np.median(spread):.3g} deg (median){fold}" if len(spread) else "unknown"),
            *self._of_com(),
            *self._of_kinds(),
            ("angle grid", f"{self.angle_posterior.shape[-1]} angles"),
            ("log evidence", f"{evidence.mean():.4g} nat per pattern (mean)" if len(evidence) else "unknown"),
        ]
        return "Embedding", rows

    def _of_com(self) -> Sequence[Row]:
        std = self.deflection_angle_std
        if std is None or not np.isfinite(std).any():
            return ()
        return (("angle of the COM", f"uncertain by {np.degrees(np.nanmedian(std)):.3g} deg (median)"),)

    def _of_kinds(self) -> Sequence[Row]:
        kind = self.kind
        if kind is None:
            return ()
        n = max(int((kind >= 0).sum()), 1)
        shares = [
            f"{name} {100 * float((kind == k).sum()) / n:.3g} %"
            for k, name in enumerate((*self.kind_names, "none"), start=1)
            if k <= len(self.kind_names)
        ]
        return (("kinds", f"{len(self.kind_names)}: {', '.join(shares[:6])}"),)

    def write(self, group: zarr.Group) -> None:
        """Write every map as an array of its name into a Zarr group."""
        units = dict.fromkeys(("angle", "angle_std", *_OF_COM), "rad") | {"log_evidence": "nat"}
        # not of the group, whose file is there before there is an embedding
        others: dict[str, dict[str, Any]] = {
            "angle": {"symmetry": self.symmetry},
            "kind_probability": {"names": list(self.kind_names), "symmetry": list(self.kind_symmetry)},
        }
        for name in (*_MAPS, *(name for name in (*_OF_COM, *_OF_KINDS) if getattr(self, name) is not None)):
            values = np.asarray(getattr(self, name), np.float32)
            attributes = {"unit": units.get(name, "")} | others.get(name, {})
            group.create_array(name, data=values, overwrite=True, attributes=attributes)

    @classmethod
    def read(cls, group: zarr.Group) -> Embedding:
        """Read what `write` wrote."""
        maps = [np.asarray(group[name][...]) for name in _MAPS]  # type: ignore[index]
        more: dict[str, Any] = {
            name: np.asarray(group[name][...])  # type: ignore[index]
            for name in (*_OF_COM, *_OF_KINDS)
            if name in group
        }
        if "kind_probability" in more:
            attributes: Any = group["kind_probability"].attrs
            more["kind_names"], more["kind_symmetry"] = tuple(attributes["names"]), tuple(attributes["symmetry"])
        return cls(*maps, symmetry=int(group["angle"].attrs.get("symmetry", 1)), **more)  # type: ignore[arg-type]

"""The figure of agreement: rotation against the COM's direction, latents against its magnitude."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.figures.captions import pearson_words
from stemvane.figures.layout import Box, add_axes, label_panel, new_page
from stemvane.figures.panels import write_absent
from stemvane.figures.style import MAGNITUDES, SMALL, STYLE

__all__ = ["agreement_page"]

_COM_SHARE = 0.2
_PITCH, _SIDE = (1.72, 1.86), 1.17


def agreement_page(
    measurements: Measurements, embedding: Embedding, metrics: Mapping[str, Any], *, figure: Figure | None = None
) -> Figure:
    """Draw the rotation against the COM angle, and each latent against the COM magnitude.

    Parameters
    ----------
    measurements : Measurements
        Measurements of the scan.
    embedding : Embedding
        Latents and angles of the same scan.
    metrics : mapping
        Metrics as in ``metrics.json``: sign, offset and error of the angle, and the correlations.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        Histograms of patterns. The rotation is shown after the sign and offset of the metrics, where the COM
        magnitude is above 20 % of its maximum (of its 99th percentile in noisy data).
    """
    magnitude = np.asarray(measurements.com_magnitude, float)
    n_panels = 1 + embedding.n_latent
    n_across = min(4, n_panels)
    n_rows = -(-n_panels // n_across)
    with rc_context(STYLE):
        figure = new_page((_PITCH[0] * n_across + 0.35, _PITCH[1] * n_rows + 0.06), figure)
        boxes = [
            Box(0.48 + i % n_across * _PITCH[0], 0.4 + i // n_across * _PITCH[1], _SIDE, _SIDE) for i in range(n_panels)
        ]
        is_strong = magnitude > _threshold(measurements, magnitude)
        meshes = [_angle_panel(figure, boxes[0], measurements, embedding, metrics, is_strong)]
        unit = f" ({embedding.latent_unit})" if embedding.latent_unit else ""
        for index, (box, letter) in enumerate(zip(boxes[1:], string.ascii_lowercase[1:], strict=False)):
            latent = embedding.latents[..., index]
            shown = np.isfinite(latent)
            ax = add_axes(figure, box, f"latent_{index + 1}")
            meshes.append(_histogram(ax, magnitude[shown], latent[shown]))
            ax.set(xlabel=f"|COM| ({measurements.com_unit})", ylabel=f"latent {index + 1}{unit}")
            label_panel(figure, box, letter, f"Latent {index + 1}", pearson_words(metrics, index), indent=0.3)
        most = max(float(np.ma.filled(np.ma.asarray(mesh.get_array()), 0).max()) for mesh in meshes)
        norm = LogNorm(1, max(10.0, most))
        for mesh in meshes:
            mesh.set_norm(norm)
        place = boxes[n_across - 1].within(_SIDE + 0.06, 0, 0.06, _SIDE)
        bar = figure.colorbar(meshes[0], cax=add_axes(figure, place, "colour bar"))
        bar.set_label("patterns per bin", size=SMALL, labelpad=1)
        bar.ax.tick_params(which="both", width=0.4, pad=1.5)
    return figure


def _threshold(measurements: Measurements, magnitude: NDArray[np.floating[Any]]) -> float:
    """Smallest COM magnitude whose direction counts."""
    longest = np.nanmax(magnitude) if measurements.noiseless else np.nanpercentile(magnitude, 99)
    return _COM_SHARE * float(longest)


def _angle_panel(
    figure: Figure,
    box: Box,
    measurements: Measurements,
    embedding: Embedding,
    metrics: Mapping[str, Any],
    is_strong: NDArray[np.bool_],
) -> QuadMesh:
    sign, offset = metrics.get("angle_sign") or 1, metrics.get("angle_offset_deg") or 0.0
    aligned = (sign * (np.degrees(embedding.angle) - offset) + 180) % 360 - 180
    if embedding.symmetry > 1:
        aligned[:] = np.nan
    shown = is_strong & np.isfinite(aligned)
    edges, ticks = np.linspace(-180, 180, 73), [-180, -90, 0, 90, 180]
    ax = add_axes(figure, box, "rotation")
    mesh = _histogram(ax, np.degrees(measurements.com_angle)[shown], aligned[shown], (edges, edges))
    ax.set(xlabel="COM angle, as measured (deg)", ylabel="rotation, aligned (deg)", xticks=ticks, yticks=ticks)
    error = metrics.get("angle_error_median_deg")
    if not np.isfinite(aligned).any():
        fold = f"{embedding.symmetry}-fold content\nhas no direction"
        write_absent(ax, "no angle" if embedding.symmetry == 1 else fold)
    words: tuple[str, ...] = ()
    if error is not None:
        most = "maximum" if measurements.noiseless else "99th percentile"
        words = (f"median difference {error:.2f}°", f"|COM| > {100 * _COM_SHARE:.0f} % of {most}")
    label_panel(figure, box, "a", "Rotation", *words, indent=0.3)
    return mesh


def _histogram(
    ax: Axes,
    across: NDArray[np.floating[Any]],
    up: NDArray[np.floating[Any]],
    edges: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> QuadMesh:
    bins: Any = edges or [72, 72]
    counts, x, y = np.histogram2d(across, up, bins=bins)
    colors = MAGNITUDES.reversed().with_extremes(bad="white")
    mesh = ax.pcolormesh(x, y, np.ma.masked_equal(counts.T, 0), cmap=colors, rasterized=True)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    return mesh

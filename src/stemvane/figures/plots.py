"""Plots of a run: agreement with the COM, and learning curves."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stemvane.data.measurements import Measurements
from stemvane.figures.layout import Box, add_axes, label_panel
from stemvane.figures.panels import pearson_words, write_absent
from stemvane.figures.style import MAGNITUDES, STYLE
from stemvane.runs.run import Run

__all__ = ["agreement", "learning_curves"]

_COM_SHARE = 0.2
_PITCH, _SIDE = (1.67, 1.76), 1.17
_COLORS = {"total": "#000000", "reconstruction": "#0072B2", "kl_latent": "#D55E00", "kl_angle": "#009E73"}
_WORDS = {"total": "total", "reconstruction": "reconstruction", "kl_latent": "latents", "kl_angle": "angle"}


def agreement(run: Run) -> Figure:
    """Draw the rotation against the COM angle, and each latent against the COM magnitude.

    Parameters
    ----------
    run : Run
        With measurements, embedding and metrics.

    Returns
    -------
    Figure
        Histograms of patterns. The rotation is shown after the sign and offset of the metrics, where the COM
        magnitude is above 20 % of its maximum (of its 99th percentile in noisy data).

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    measured, embedding = run.measurements, run.embedding
    magnitude = np.asarray(measured.com_magnitude, float)
    n_panels = 1 + embedding.n_latent
    n_across = min(4, n_panels)
    n_rows = -(-n_panels // n_across)
    with rc_context(STYLE):
        figure = Figure(figsize=(_PITCH[0] * n_across + 0.5, _PITCH[1] * n_rows + 0.06))
        boxes = [
            Box(0.48 + i % n_across * _PITCH[0], 0.3 + i // n_across * _PITCH[1], _SIDE, _SIDE) for i in range(n_panels)
        ]
        meshes = [_angle_panel(figure, boxes[0], run, magnitude > _threshold(measured, magnitude))]
        for index, (box, letter) in enumerate(zip(boxes[1:], string.ascii_lowercase[1:], strict=False)):
            latent = embedding.latents[..., index]
            shown = np.isfinite(latent)
            axes = add_axes(figure, box, f"latent_{index + 1}")
            meshes.append(_histogram(axes, magnitude[shown], latent[shown]))
            axes.set(
                xlabel=f"|COM| ({measured.com_unit})", ylabel=f"latent {index + 1} ({run.config.model.latent_unit})"
            )
            label_panel(figure, box, letter, f"Latent {index + 1}", pearson_words(run.metrics, index), indent=0.3)
        most = max(float(np.ma.filled(np.ma.asarray(mesh.get_array()), 0).max()) for mesh in meshes)
        norm = LogNorm(1, max(10.0, most))
        for mesh in meshes:
            mesh.set_norm(norm)
        place = boxes[n_across - 1].within(_SIDE + 0.1, 0, 0.07, _SIDE)
        bar = figure.colorbar(meshes[0], cax=add_axes(figure, place, "colour bar"))
        bar.set_label("patterns per bin", size=6, labelpad=2)
        bar.ax.tick_params(which="both", labelsize=5.5, width=0.4, pad=1.5)
    return figure


def _threshold(measured: Measurements, magnitude: NDArray[np.floating[Any]]) -> float:
    """Smallest COM magnitude whose direction counts."""
    noiseless = measured.noiseless
    return _COM_SHARE * float(np.nanmax(magnitude) if noiseless else np.nanpercentile(magnitude, 99))


def _angle_panel(figure: Figure, box: Box, run: Run, strong: NDArray[np.bool_]) -> QuadMesh:
    metrics = run.metrics
    sign, offset = metrics.get("angle_sign") or 1, metrics.get("angle_offset_deg") or 0.0
    turned = (sign * (np.degrees(run.embedding.angle) - offset) + 180) % 360 - 180
    shown = strong & np.isfinite(turned)
    edges, ticks = np.linspace(-180, 180, 73), [-180, -90, 0, 90, 180]
    axes = add_axes(figure, box, "rotation")
    mesh = _histogram(axes, np.degrees(run.measurements.com_angle)[shown], turned[shown], (edges, edges))
    axes.set(xlabel="COM angle (deg)", ylabel="rotation, aligned (deg)", xticks=ticks, yticks=ticks)
    error = metrics.get("angle_error_median_deg")
    if not np.isfinite(turned).any():
        write_absent(axes, "no angle")
    words = "" if error is None else f"median error {error:.2f}° where |COM| > {100 * _COM_SHARE:.0f} %"
    label_panel(figure, box, "a", "Rotation", words, indent=0.3)
    return mesh


def _histogram(
    axes: Axes,
    across: NDArray[np.floating[Any]],
    up: NDArray[np.floating[Any]],
    edges: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> QuadMesh:
    bins: Any = edges or [72, 72]
    counts, x, y = np.histogram2d(across, up, bins=bins)
    colors = MAGNITUDES.reversed().with_extremes(bad="white")
    mesh = axes.pcolormesh(x, y, np.ma.masked_equal(counts.T, 0), cmap=colors, rasterized=True)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return mesh


def learning_curves(run: Run) -> Figure:
    """Draw the parts of the loss, and the noise level where it was learned, over the epochs.

    Parameters
    ----------
    run : Run
        With its history.

    Returns
    -------
    Figure
        (a) total and reconstruction; (b) Kullback-Leibler divergences of latents and angle; (c) noise level.

    Raises
    ------
    RunError
        If the history is missing or damaged.
    """
    history = run.history
    panels: list[tuple[str, str, tuple[str, ...]]] = [
        ("Loss", "nats per pattern", ("total", "reconstruction")),
        ("KL divergence", "nats per pattern", ("kl_latent", "kl_angle")),
    ]
    noise = history.get("noise_level")
    if noise is not None and np.isfinite(noise).any():
        panels.append(("Noise level", "noise level", ("noise_level",)))
    pitch = 2.4
    with rc_context(STYLE):
        figure = Figure(figsize=(pitch * len(panels), 2.06))
        for index, (title, unit, names) in enumerate(panels):
            box = Box(0.52 + index * pitch, 0.32, 1.8, 1.36)
            axes = add_axes(figure, box, title)
            for name in names:
                values = history.get(name)
                if values is not None and np.isfinite(values).any():
                    axes.plot(history["epoch"], values, color=_COLORS.get(name, "k"), label=_WORDS.get(name))
            axes.set(xlabel="epoch", ylabel=unit)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.spines[["top", "right"]].set_visible(False)
            if not axes.lines:
                write_absent(axes, "not trained")
            elif len(names) > 1:
                axes.legend(handlelength=1.2)
            label_panel(figure, box, string.ascii_lowercase[index], title, indent=0.4)
    return figure

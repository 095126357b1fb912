"""Draw docs/images/motive.png: one pattern rotated by all angles, and how many components models need for it.

Run as ``python docs/draw_motive.py``; it prints the numbers of the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemvane import Calibration, Config, Dataset4D, Measurements, measure, pattern_model
from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel
from stemvane.figures.style import DIVERGING, MAGNITUDES, STYLE
from stemvane.models.base import PatternModel

PICTURE = Path(__file__).parent / "images" / "motive.png"
SIDE, RADIUS = 64, 26.0
AXIS = ((SIDE - 1) / 2, (SIDE - 1) / 2)
SCAN = (16, 16)
NUMBERS = (*range(1, 9), 10, 12, 16, 20, 24)
# right, up (in disc radii), width, brightness
SPOTS = ((0.55, 0.0, 0.16, 1.0), (0.1, 0.5, 0.13, 0.7), (-0.35, -0.25, 0.2, -0.5), (0.3, -0.5, 0.09, 0.6))
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def pattern(angle: float) -> Any:
    """Return a fixed disc and an asymmetric content, looked up where each pixel was before the rotation."""
    rows, columns = np.indices((SIDE, SIDE), dtype=float)
    place = ((columns - AXIS[1]) + 1j * (AXIS[0] - rows)) / RADIUS
    disc = 1 / (1 + np.exp(np.minimum(40 * (abs(place) - 1), 700)))
    place = place * np.exp(-1j * angle)
    content = sum(b * np.exp(-(abs(place - (x + 1j * y)) ** 2) / (2 * w**2)) for x, y, w, b in SPOTS)
    return disc * (1 + 0.25 * content)


def measured() -> Measurements:
    """Measure the pattern rotated by as many angles as the scan has positions."""
    angles = 2 * np.pi * np.arange(SCAN[0] * SCAN[1]) / (SCAN[0] * SCAN[1])
    patterns = np.stack([pattern(angle) for angle in angles]).astype(np.float32)
    calibration = Calibration(pixel_size=(2.0, 2.0), optical_axis=AXIS, disc_radius=RADIUS)
    dataset = Dataset4D.from_array(patterns.reshape(*SCAN, SIDE, SIDE), calibration=calibration)
    return measure(dataset, config=Config().replace(measure={"n_pixels": 48}).measure)


def fit_model(measurements: Measurements, name: str, n_latent: int) -> PatternModel:
    """Fit a model to all positions."""
    config = Config().replace(model={"model": name, "n_latent": n_latent}, training={"holdout": 0.0})
    return pattern_model(config).fit(measurements)


def explained(measurements: Measurements, model: PatternModel) -> float:
    """Share of the pixels' variance over the scan that a model explains."""
    pixels = np.asarray(measurements.pixels[:], float)
    left = ((pixels - model.reconstruct(measurements)) ** 2).sum()
    return float(1 - left / ((pixels - pixels.mean(axis=(0, 1))) ** 2).sum())


def image(axes: Axes, values: Any, words: str, *, signed: bool = True) -> None:
    """Draw a pattern, or a difference of patterns on a scale of its own."""
    values = values[4:-4, 4:-4]
    limit = np.nanmax(np.abs(values))
    low, colors = (-limit, DIVERGING) if signed else (0.8, MAGNITUDES)
    axes.imshow(values, cmap=colors, vmin=low, vmax=limit, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, -0.05, words, transform=axes.transAxes, size=6, ha="center", va="top")
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)


def draw_shares(axes: Axes, shares: dict[str, list[float]], share: float) -> None:
    """Draw explained variance against the number of components."""
    for name, color, marker, words in (("pca", BLUE, "o", "PCA"), ("nmf", ORANGE, "s", "NMF")):
        axes.plot(NUMBERS, shares[name], color=color, marker=marker, ms=3, label=words)
    axes.axhline(share, color=GREEN, lw=0.6, ls=":")
    axes.plot(1, share, color=GREEN, marker="D", ms=5, ls="none", label="template, rotated")
    axes.set(xlabel="number of components", ylabel="explained variance", xlim=(0, NUMBERS[-1] + 1), ylim=(-0.03, 1.05))
    axes.set_xticks([1, 4, 8, 12, 16, 20, 24])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right")


def main() -> None:
    """Draw the picture and print its numbers."""
    found = measured()
    shares = {name: [explained(found, fit_model(found, name, n)) for n in NUMBERS] for name in ("pca", "nmf")}
    ours, pca = fit_model(found, "alignment", 0), fit_model(found, "pca", 8)
    share = explained(found, ours)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.70))
        side, across, down = 0.72, 0.8, 0.92
        first = Box(0.08, 0.44, side, side)
        label_panel(figure, first, "a", "One pattern, rotated by all angles", "a fixed disc and a content that rotates")
        for i, degrees in enumerate(range(0, 360, 60)):
            axes = add_axes(figure, first.within(i * across, 0, side, side), f"rotated {degrees}")
            image(axes, pattern(np.radians(degrees)), f"{degrees}°", signed=False)
        first = Box(0.08, 1.86, side, side)
        label_panel(figure, first, "b", "PCA: its first eight components", "in pairs, a cosine and a sine of one order")
        drawn = pca.decode(np.eye(8), background=False) - pca.decode(np.zeros(8), background=False)
        for i, (component, gain) in enumerate(zip(drawn, np.diff([0.0, *shares["pca"][:8]]), strict=True)):
            place = first.within(i % 4 * across, i // 4 * down, side, side)
            image(add_axes(figure, place, f"component {i + 1}"), component, f"{i + 1}: {100 * gain:.0f} %")
        box = Box(4 * across - side + 1.0, 1.86, 1.32, 1.32)
        label_panel(figure, box, "c", "Ours: one template", "rotated by each pattern's angle")
        image(add_axes(figure, box, "template"), ours.decode(np.zeros(0), background=False), f"{100 * share:.2f} %")
        box = Box(5.35, 0.44, 1.75, 2.74)
        label_panel(figure, box, "d", "Variance over the angles", "explained by this many components", indent=0.3)
        draw_shares(add_axes(figure, box, "shares"), shares, share)
        figure.savefig(PICTURE, dpi=200, metadata={"Software": None})
    for n, of_pca, of_nmf in zip(NUMBERS, shares["pca"], shares["nmf"], strict=True):
        sys.stdout.write(f"{n:2d} components: PCA {of_pca:.4f}, NMF {of_nmf:.4f}\n")
    sys.stdout.write(f"one template, rotated: {share:.4f}\n{PICTURE}\n")


if __name__ == "__main__":
    main()

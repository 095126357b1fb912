"""Figure of the comparison: what a scan knows beyond a pattern, and what filters make of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.denoise.knowledge import expected_errors, information_gain
from benchmarks.denoise.methods import as_complex
from benchmarks.denoise.rivals import frequencies, mean_over_rings
from benchmarks.denoise.scans import SCANS, simulated
from stemvane import filter_com, measure
from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel
from stemvane.figures.style import DIVERGING, IMAGES, STYLE

__all__ = ["DOSES", "draw"]

_Map = NDArray[np.complexfloating[Any, Any]]

SHOWN = "demo, 20,000"
OUT_OF_FOCUS = "defocus 60 Å, 20,000"
DOSES = {"demo, 4,000": 4e3, "demo, 20,000": 2e4, "demo, 100,000 electrons": 1e5}
# colours that are told apart in grey and by the colour-blind (Okabe and Ito, 2008)
BLUE, ORANGE, GREEN, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#000000", "0.55"
LINES = {
    "COM": (GREY, "o", "measured COM"),
    "Gaussian process, no curl": (BLUE, "s", "Gaussian process"),
    "tensor SVD": ("#CC79A7", "v", "tensor SVD"),
    "ptychography, known probe": ("#E69F00", "^", "ptychography"),
    "`filter_com`": (ORANGE, "D", "filter_com"),
    "bound, disc alone": (BLACK, "_", "bound, disc alone"),
}


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw maps, spectra, what each piece of knowledge is worth, and the errors of the report; writes a PNG."""
    measured = measure(simulated(SCANS[SHOWN], 0))
    com, truth = as_complex(measured.deflection), as_complex(measured.expectation.deflection)
    found = as_complex(filter_com(measured).deflection)
    calibration = measured.calibration
    assert calibration.scan_step is not None
    assert calibration.convergence_semiangle is not None
    assert calibration.wavelength is not None
    step, cutoff = calibration.scan_step, 2e-3 * calibration.convergence_semiangle / calibration.wavelength
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.75))
        side = 1.1
        first = Box(0.08, 0.46, side, side)
        label_panel(figure, first, "a", "Deflection along x", "20,000 electrons per pattern")
        limit = float(np.abs(truth.real).max())
        for i, (words, shown) in enumerate({"measured": com, "filtered": found, "noiseless": truth}.items()):
            axes = add_axes(figure, first.within(i * (side + 0.08), 0, side, side), words)
            axes.imshow(shown.real, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, -0.04, words, transform=axes.transAxes, ha="center", va="top", size=6)
        box = Box(3.88, 0.46, side, side)
        label_panel(figure, box, "b", "Its spectrum", "circle: 2α/λ")
        _draw_spectrum(add_axes(figure, box, "spectrum"), com, step, cutoff)
        box = Box(5.62, 0.46, 1.5, side)
        label_panel(figure, box, "c", "Power in rings", "over that of the noise", indent=0.25)
        noise = float((np.abs(com - truth) ** 2).mean())
        _draw_rings(add_axes(figure, box, "rings"), com, noise, step, cutoff)
        top = 2.45
        box = Box(0.48, top, 1.45, 1.75)
        label_panel(figure, box, "d", "Information on a frequency", "all of the disc, over the COM's", indent=0.4)
        _draw_gain(add_axes(figure, box, "gain"), cutoff)
        box = Box(3.62, top, 1.2, 1.75)
        label_panel(figure, box, "e", "What is known", "and the error that is left", indent=1.45)
        _draw_steps(add_axes(figure, box, "steps"), report)
        box = Box(5.5, top, 1.5, 1.75)
        label_panel(figure, box, "f", "What filters reach", "mean over the draws", indent=0.4)
        _draw_doses(add_axes(figure, box, "doses"), report)
        figure.savefig(path, dpi=200, metadata={"Software": None})


def _draw_spectrum(axes: Axes, com: _Map, step: tuple[float, float], cutoff: float) -> None:
    power = np.fft.fftshift(np.abs(_tapered(com)) ** 2)
    highest = 0.5 / step[0]
    floor = float(np.median(power))
    axes.imshow(
        power,
        cmap=IMAGES,
        norm=LogNorm(floor / 10, power.max()),
        extent=(-highest, highest, highest, -highest),
        interpolation="nearest",
    )
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(cutoff * np.cos(angle), cutoff * np.sin(angle), color=ORANGE, lw=0.8)
    axes.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2], xlabel="spatial frequency (1/Å)")


def _draw_rings(axes: Axes, com: _Map, noise: float, step: tuple[float, float], cutoff: float) -> None:
    """Power along the frequency and across it; a gradient has none across."""
    frequency, angle = frequencies(com.shape, step)
    turned = _tapered(com) * np.exp(-1j * angle)
    opposite = np.conj(np.roll(turned[::-1, ::-1], (1, 1), (0, 1)))
    # in the frame of the frequency, what lies along it is imaginary in space and what lies across it real
    for part, color, words in (((turned - opposite) / 2, BLUE, "along"), ((turned + opposite) / 2, GREEN, "across")):
        power = mean_over_rings(np.abs(part) ** 2, frequency, step) / (noise / 2)
        order = np.argsort(frequency.ravel())
        axes.plot(frequency.ravel()[order], power.ravel()[order], color=color, label=words)
    axes.axvline(cutoff, color=ORANGE, lw=0.8)
    axes.set(xlabel="spatial frequency (1/Å)", yscale="log", xlim=(0.1, 0.5 / step[0]))
    axes.legend(loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)


def _tapered(com: _Map) -> _Map:
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in com.shape))
    return np.asarray(np.fft.fft2((com - com.mean()) * window) / np.sqrt((window**2).sum()))


def _draw_gain(axes: Axes, cutoff: float) -> None:
    lengths = np.linspace(0.1, 0.97, 40) * cutoff
    for name, color, words in ((OUT_OF_FOCUS, ORANGE, "defocus 60 Å"), (SHOWN, BLUE, "in focus")):
        axes.plot(lengths, information_gain(SCANS[name], lengths), color=color, label=words)
    axes.axhline(1, color=GREY, lw=0.6, ls=":")
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="times as much", yscale="log", ylim=(0.8, 5000))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_steps(axes: Axes, report: dict[str, Any]) -> None:
    expected = expected_errors(SCANS[SHOWN])
    names = list(expected)
    axes.barh(range(len(names)), list(expected.values()), color=BLUE, height=0.6)
    for i, value in enumerate(expected.values()):
        axes.text(value * 1.08, i, f"{value:.3f}", va="center", size=6)
    reached = _means(report, SHOWN, "`filter_com`", "error")
    if reached is not None:
        axes.axvline(reached, color=ORANGE, lw=1)
        axes.text(reached, -0.6, "filter_com", color=ORANGE, ha="center", va="bottom", size=6)
    axes.set_yticks(range(len(names)), [f"+ {name}" if i else name for i, name in enumerate(names)])
    axes.set(xscale="log", xlim=(0.004, 0.9), ylim=(len(names) - 0.3, -0.5), xlabel="rms error over rms")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_doses(axes: Axes, report: dict[str, Any]) -> None:
    for method, (color, marker, words) in LINES.items():
        points = [(dose, _means(report, scan, method, "angle")) for scan, dose in DOSES.items()]
        known = [(dose, value) for dose, value in points if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=color, marker=marker, ms=3, label=words)
    axes.set(xlabel="electrons per pattern", ylabel="median angle error (°)", xscale="log", yscale="log")
    axes.set_xticks(list(DOSES.values()), [f"{dose:,.0f}" for dose in DOSES.values()])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    # room for the legend
    axes.set_ylim(0.1, 600)
    axes.legend(loc="upper right", handlelength=1.5, labelspacing=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _means(report: dict[str, Any], scan: str, method: str, key: str) -> float | None:
    values: Sequence[float] = [
        record["rows"][method][key]
        for record in report["cells"]
        if record["cell"]["scan"] == scan and method in record["rows"]
    ]
    return float(np.mean(values)) if values else None

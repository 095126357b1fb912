"""Draw docs/images/conventions.png and scan_rotation.png; the angles in them are measured, not written down.

Run as ``python docs/draw_conventions.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from stemvane import Calibration, Dataset4D, Measurements, find_rotation, measure
from stemvane.field.derivatives import rotate_vectors
from stemvane.field.scan_rotation import ScanRotation

PICTURE = Path(__file__).parent / "images" / "conventions.png"
ROTATION_PICTURE = PICTURE.with_name("scan_rotation.png")
SIDE, RADIUS = 33, 11.0
AXIS = ((SIDE - 1) / 2, (SIDE - 1) / 2)
SPOT = (AXIS[0] - 5.0, AXIS[1] + 7.0)
SCAN, STEP = (5, 7), (0.4, 0.4)
SCAN_ROTATION = np.radians(30)
RED, BLUE, GREY = "#c1121f", "#0072B2", "0.35"


def pattern() -> Any:
    """Return a disc with a bright spot up and to the right of the optical axis."""
    rows, columns = np.indices((SIDE, SIDE), dtype=float)
    disc = 1 / (1 + np.exp(2 * (np.hypot(rows - AXIS[0], columns - AXIS[1]) - RADIUS)))
    spot = np.exp(-((rows - SPOT[0]) ** 2 + (columns - SPOT[1]) ** 2) / 8)
    return disc * (0.45 + spot)


def measured() -> tuple[Any, Measurements]:
    """Measure the pattern and its rotations by 90°, whose mean deflection is 0."""
    patterns = np.stack([np.rot90(pattern(), n) for n in range(4)])[None]
    calibration = Calibration(scan_step=STEP, pixel_size=(2.0, 2.0), optical_axis=AXIS, disc_radius=RADIUS)
    return patterns[0], measure(Dataset4D.from_array(patterns, calibration=calibration))


def rotated(vector: Any, angle: float) -> Any:
    """Rotate a vector ``(y, x)``, y growing downwards, counter-clockwise on the screen."""
    rotated_vector = (vector[1] - 1j * vector[0]) * np.exp(1j * angle)
    return np.array([-rotated_vector.imag, rotated_vector.real])


def arrow(axes: Axes, start: tuple[float, float], vector: Any, color: str, **style: Any) -> None:
    """Draw a vector ``(y, x)`` from a point ``(y, x)`` on axes whose y grows downwards."""
    axes.annotate(
        "",
        xy=(start[1] + vector[1], start[0] + vector[0]),
        xytext=(start[1], start[0]),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0, **style},
    )


def arc(axes: Axes, centre: tuple[float, float], radius: float, first: float, last: float, color: str) -> None:
    """Draw an arc between two directions (rad, counter-clockwise on the screen) on axes whose y grows downwards."""
    # matplotlib counts angles towards growing y, here downwards
    axes.add_patch(
        Arc(
            (centre[1], centre[0]),
            2 * radius,
            2 * radius,
            theta1=-np.degrees(last),
            theta2=-np.degrees(first),
            ec=color,
        )
    )


def draw_scan(axes: Axes, vector: Any) -> None:
    """Draw the probe positions, and a vector measured on the detector rotated into the scan."""
    height, width = SCAN[0] * STEP[0], SCAN[1] * STEP[1]
    y, x = np.meshgrid(np.arange(SCAN[0]) * STEP[0], np.arange(SCAN[1]) * STEP[1], indexing="ij")
    axes.plot(x.ravel(), y.ravel(), color="0.85", lw=0.8, zorder=1)
    axes.plot(x.ravel(), y.ravel(), "o", ms=4, color=GREY, zorder=2)
    for index in ((0, 0), (0, SCAN[1] - 1), (SCAN[0] - 1, 0)):
        axes.text(x[index], y[index] - 0.09, f"[{index[0]}, {index[1]}]", size=8, ha="center", va="bottom")
    arrow(axes, (-0.42, -0.2), (0.0, 0.9), "k")
    axes.text(0.8, -0.42, "x (Å)", size=9, va="center")
    arrow(axes, (-0.2, -0.42), (0.9, 0.0), "k")
    axes.text(-0.42, 0.8, "y (Å)", size=9, ha="center", va="top")
    foot = (height + 0.85, 0.12 * width)
    rotated_vector = rotated(vector, SCAN_ROTATION)
    for v, color in ((vector, RED), (rotated_vector, BLUE)):
        arrow(axes, foot, 0.9 * v / np.linalg.norm(v), color)
    first, last = np.arctan2(-vector[0], vector[1]), np.arctan2(-rotated_vector[0], rotated_vector[1])
    arc(axes, foot, 0.55, first, last, "k")
    axes.text(foot[1] + 0.8, foot[0] - 0.5, "a vector as measured on the detector", size=8, color=RED, va="center")
    axes.text(foot[1] + 0.45, foot[0] - 0.86, "the same vector in the scan", size=8, color=BLUE, va="center")
    axes.text(foot[1] + 0.55, foot[0] - 0.1, f"scan_rotation = {np.degrees(SCAN_ROTATION):+.0f}°", size=8, va="center")
    axes.set(xlim=(-0.75, width + 0.25), ylim=(foot[0] + 0.1, -0.75), aspect="equal")
    axes.set_title("Scan: probe positions [y, x]", size=10)
    axes.set_axis_off()


def draw_pattern(axes: Axes, image: Any, vector: Any, angle: float, title: str) -> None:
    """Draw a pattern, its optical axis, and its COM with the angle that stemvane found."""
    axes.imshow(image, cmap="Greys_r", vmin=-0.1, vmax=1.5)
    axes.plot(AXIS[1], AXIS[0], "+", ms=9, color="white", mew=1.3)
    axes.plot([AXIS[1], AXIS[1] + 9], [AXIS[0], AXIS[0]], ":", color="white", lw=1)
    arrow(axes, AXIS, 9 * np.asarray(vector) / np.linalg.norm(vector), RED)
    arc(axes, AXIS, 4.2, 0.0, angle, "white")
    middle = angle / 2
    axes.text(
        AXIS[1] + 4.8 * np.cos(middle),
        AXIS[0] - 4.8 * np.sin(middle) + (0.2 if angle < 1 else -0.6),
        f"{np.degrees(angle):+.1f}°",
        size=10,
        color="white",
        ha="left" if angle < 1 else "center",
        va="center" if angle < 1 else "bottom",
    )
    axes.text(AXIS[1] + 9.3, AXIS[0] + 0.1, "0°", size=8, color="white", va="center")
    axes.text(AXIS[1] - 0.8, AXIS[0] + 1.0, "optical axis", size=8, color="white", ha="center", va="top")
    axes.set_title(title, size=10)
    axes.set(xlabel="k_x (column)", ylabel="k_y (row)")
    axes.set_xticks([0, SIDE - 1])
    axes.set_yticks([0, SIDE - 1])


def draw() -> Figure:
    """Draw the three panels."""
    patterns, found = measured()
    vectors, angles = found.deflection[0], found.com_angle[0]
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    draw_scan(left, vectors[0])
    draw_pattern(middle, patterns[0], vectors[0], angles[0], "Detector: direction of the COM (red)")
    draw_pattern(right, patterns[1], vectors[1], angles[1], "np.rot90(pattern): +90°")
    return figure


def deflections() -> tuple[Any, list[Any], list[ScanRotation]]:
    """Atoms, and their deflection in the scan, on a rotated detector, and on one that is flipped too; what is found."""
    rows, columns = np.indices((48, 48), dtype=float)
    atoms, field = np.zeros((48, 48)), np.zeros((48, 48, 2))
    for row, column in ((10, 13), (13, 36), (27, 22), (38, 6), (39, 39)):
        spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 45)
        atoms += spot
        field += spot[..., None] * np.stack([row - rows, column - columns], axis=-1)
    seen = rotate_vectors(field, -SCAN_ROTATION)
    flipped = rotate_vectors(seen, 0.0, flipped=True)
    fields = [seen, flipped]
    return atoms, [*fields, field], [find_rotation(one, scatterers=atoms) for one in fields]


def draw_rotation() -> Figure:
    """Draw the deflection as two detectors see it, and as it is in the scan."""
    atoms, fields, found = deflections()
    titles = [
        f"{name}\nscan_rotation = {np.degrees(one.angle):+.1f}°, {'flipped' if one.flipped else 'not flipped'}"
        for name, one in zip(("A rotated detector", "A detector rotated, and y flipped"), found, strict=True)
    ]
    titles.append("In the scan: vectors point at the atoms,\ntheir divergence is negative there")
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    each = slice(1, None, 3)
    at = np.arange(48)[each]
    for axes, field, title in zip(figure.subplots(1, 3), fields, titles, strict=True):
        axes.imshow(atoms, cmap="Greys", vmin=-0.1, vmax=2.2)
        color = BLUE if field is fields[-1] else RED
        some = field[each, each]
        axes.quiver(at, at, some[..., 1], some[..., 0], color=color, angles="xy", pivot="mid", scale=55, width=0.006)
        axes.set_title(title, size=10)
        axes.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    for picture, figure in ((PICTURE, draw()), (ROTATION_PICTURE, draw_rotation())):
        figure.savefig(picture, dpi=150, metadata={"Software": None})
        sys.stdout.write(f"{picture}\n")

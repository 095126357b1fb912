"""How few patterns of a scan tell its rotation and its defects, where a quick dark field of the whole field is there.

Run as ``python -m benchmarks.kinds.propose``, 8 minutes; ``--quick`` prints a first round of one scan alone. An
automated experiment is played on simulated graphene with defects: 16 patterns at random places, a model, 16 more where
`propose` wants them, and so on, beside other ways of choosing them.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.harness.cells import machine
from benchmarks.harness.comparison import Comparison, cells_as_json
from stemvane import (
    AlignedPCA,
    Dataset4D,
    Embedding,
    ImagePrediction,
    Measurements,
    measure,
    predict_from_image,
    simulate,
)
from stemvane.config import Config

__all__: list[str] = []

_Doubles = NDArray[np.float64]
_Mask = NDArray[np.bool_]

_N, _BATCH, _MOST = 64, 16, 160
# draws that proposals were not developed on, which are 0 to 3
_DRAWS = (4, 5, 6)
_EXTENT = 15.75
_DEFECTS = {"N": 1, "vacancy": 1, "Si-C3": 1}
_DOSES = (0.0, 100_000.0)
# degrees, Å
_GOAL, _NEAR = 5.0, 0.5
# positions: half a cell of graphene, over which a mean has no lattice left, and about the width of an atom
_CELL, _ATOM = 4.0, 1.0
_RESULTS = Path(__file__).parents[1] / "results" / "propose.json"
_README = Path(__file__).parents[1] / "README.md"
_SETTINGS = Config().replace(basis={"neighbours": False}, training={"holdout": 0.0})


class _Field(NamedTuple):
    """A scan, its dark field, the angles of a model of all its noiseless patterns, and its defects in positions."""

    measured: Measurements
    image: _Doubles
    angle: _Doubles
    defects: _Doubles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of one scan, printed only")
    parser.set_defaults(readme=_README)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    comparison = Comparison("propose", table, cells_as_json)
    comparison.require_page(options)
    cells = []
    for dose in _DOSES[:1] if options.quick else _DOSES:
        for seed in _DRAWS[:1] if options.quick else _DRAWS:
            field = make_field(dose, seed)
            others = alone(field)
            for name in _DESIGNS:
                began = time.perf_counter()
                played = play(field, _DESIGNS[name], seed, 2 * _BATCH if options.quick else _MOST)
                cell = {"name": name, "dose": dose, "seed": seed, "seconds": time.perf_counter() - began}
                cells.append({"cell": cell, **played, **others})
                print(cells[-1], flush=True)
    report = {"machine": machine(), "cells": cells}
    if not options.quick:
        comparison.publish(report, f"{table(report)}\n", _RESULTS, options.readme)
    print(table(report))


def make_field(dose: float, seed: int) -> _Field:
    """Simulate and measure a sheet with one defect of each kind."""
    scan = simulate(
        structure="graphene", scan_shape=(_N, _N), scan_extent=(_EXTENT, _EXTENT), detector_shape=(32, 32),
        dose=dose or None, defects=_DEFECTS, placement_seed=seed, seed=seed, progress=False,
    )  # fmt: skip
    measured = measure(scan, progress=False)
    ideal = measured
    if dose:
        clean = Dataset4D.from_array(scan.expectation, calibration=scan.calibration, noiseless=True)
        ideal = measure(clean, progress=False)
    step = np.array(measured.calibration.scan_step)
    defects = scan.atoms.defects.positions / step
    image = np.asarray(measured.maps["annular_dark_field"], np.float64)
    return _Field(measured, image, embed(ideal, np.ones((_N, _N), bool)).angle, defects)


def embed(measured: Measurements, mask: _Mask) -> Embedding:
    """Fit a model to some patterns, each by itself, and embed them."""
    model = AlignedPCA(2, basis=_SETTINGS.basis, training=_SETTINGS.training)
    return model.fit(measured, mask=mask, progress=False).embed(measured, mask=mask)


def error(angle: _Doubles, field: _Field) -> float:
    """Median error in degrees, where the angle 0 of a model has no meaning."""
    apart = angle - field.angle
    apart = apart - np.angle(np.nanmean(np.exp(1j * apart)))
    return float(np.degrees(np.nanmedian(np.abs(np.angle(np.exp(1j * apart))))))


def play(
    field: _Field, design: Callable[[_Field, ImagePrediction, _Mask, int], _Mask], seed: int, most: int
) -> dict[str, Any]:
    """Record patterns round by round: numbers until the rotation is known and until the defects are, and errors."""
    mask = np.zeros(_N * _N, bool)
    mask[np.random.default_rng(seed).choice(_N * _N, _BATCH, replace=False)] = True
    mask = mask.reshape(_N, _N)
    n_rotation, n_defects, errors = None, None, []
    predicted = None
    while True:
        if predicted is not None:
            mask = design(field, predicted, mask, seed)
        embedding = embed(field.measured, mask)
        predicted = predict_from_image(embedding, field.image)
        n = int(mask.sum())
        errors.append(error(np.where(mask, embedding.angle, predicted.angle), field))
        if n_rotation is None and errors[-1] <= _GOAL:
            n_rotation = n
        if n_defects is None and all_seen(field, mask):
            n_defects = n
        if n >= most or (n_rotation is not None and n_defects is not None):
            return {"n_rotation": n_rotation, "n_defects": n_defects, "errors": errors}


def all_seen(field: _Field, mask: _Mask) -> bool:
    """Whether a pattern lies at every defect."""
    near = _NEAR / (_EXTENT / _N)
    return all(np.linalg.norm(np.argwhere(mask) - place, axis=1).min() <= near for place in field.defects)


def alone(field: _Field) -> dict[str, float]:
    """Error of the direction in which the dark field grows, and that of every pattern by itself."""
    down, right = np.gradient(ndimage.gaussian_filter(field.image, _ATOM))
    everywhere = embed(field.measured, np.ones((_N, _N), bool))
    return {"gradient": error(np.arctan2(-down, right), field), "all_patterns": error(everywhere.angle, field)}


def ours(field: _Field, predicted: ImagePrediction, mask: _Mask, seed: int) -> _Mask:
    return with_places(mask, predicted.propose(_BATCH))


def at_random(field: _Field, predicted: ImagePrediction, mask: _Mask, seed: int) -> _Mask:
    free = np.argwhere(~mask)
    chosen = np.random.default_rng([seed, int(mask.sum())]).choice(len(free), _BATCH, replace=False)
    return with_places(mask, free[chosen])


def raster(field: _Field, predicted: ImagePrediction, mask: _Mask, seed: int) -> _Mask:
    """A new grid of as many positions as there are to be, as square as they allow."""
    n = int(mask.sum()) + _BATCH
    rows = max(k for k in range(1, math.isqrt(n) + 1) if n % k == 0)
    y, x = (((np.arange(k) + 0.5) * _N / k).astype(int) for k in (rows, n // rows))
    return with_places(np.zeros_like(mask), [(i, j) for i in y for j in x])


def brightest_change(field: _Field, predicted: ImagePrediction, mask: _Mask, seed: int) -> _Mask:
    """Where the dark field, smoothed until no lattice is left, is furthest from its median."""
    smooth = ndimage.gaussian_filter(field.image, _CELL)
    return with_places(mask, apart(np.abs(smooth - np.median(smooth)), mask))


def strongest_contrast(field: _Field, predicted: ImagePrediction, mask: _Mask, seed: int) -> _Mask:
    """Where the dark field varies most within a cell."""
    mean = ndimage.gaussian_filter(field.image, _CELL)
    return with_places(mask, apart(ndimage.gaussian_filter((field.image - mean) ** 2, _CELL / 2), mask))


def apart(values: _Doubles, mask: _Mask) -> Iterator[tuple[int, int]]:
    """The largest values, none of them within two positions of a recorded one or of another."""
    free = ~ndimage.binary_dilation(mask, iterations=2)
    for _ in range(_BATCH):
        y, x = np.unravel_index(np.where(free, values, -np.inf).argmax(), values.shape)
        free[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = False
        yield int(y), int(x)


def with_places(mask: _Mask, places: Any) -> _Mask:
    mask = mask.copy()
    mask[tuple(np.array(list(places)).T)] = True
    return mask


_DESIGNS = {
    "`propose`": ours,
    "random": at_random,
    "raster": raster,
    "image: smoothed over a cell, furthest from its median": brightest_change,
    "image: strongest local contrast": strongest_contrast,
}


def table(report: dict[str, Any]) -> str:
    """Make the table: a row for each dose and design."""
    lines = [
        f"{report['machine']['processors']} processors, {report['machine']['time']}.",
        "",
        "| electrons | patterns chosen by | until the rotation is within 5° | median error at the end |"
        " until all defects have one | dark field's gradient alone | all 4,096 patterns by themselves |",
        f"|{'---|' * 7}",
    ]
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for cell in report["cells"]:
        groups.setdefault((cell["cell"]["dose"], cell["cell"]["name"]), []).append(cell)
    for (dose, name), cells in groups.items():
        numbers = [
            ", ".join("–" if cell[key] is None else str(cell[key]) for cell in cells)
            for key in ("n_rotation", "n_defects")
        ]
        errors = ", ".join(f"{cell['errors'][-1]:.1f}°" for cell in cells)
        others = [", ".join(f"{cell[key]:.1f}°" for cell in cells) for key in ("gradient", "all_patterns")]
        dose_word = f"{dose:,.0f}" if dose else "infinite"
        lines.append(f"| {dose_word} | {name} | {numbers[0]} | {errors} | {numbers[1]} | {' | '.join(others)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

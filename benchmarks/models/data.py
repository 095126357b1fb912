"""Data sets of the comparison of models: measured once, with all that is known of them, in files for every model.

``python -m benchmarks.models.data NAME FOLDER [--quick]`` makes one: ``measurements.zarr`` for our models and
``known.npz`` for the other programs and for the scores. The comparison starts it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy import ndimage

from benchmarks.accuracy.bounds import MEDIAN_OF_DEVIATION, analytic_bound, graphene_bound
from benchmarks.harness.cells import ROOT
from stemvane import Config, Dataset4D, Measurements, measure, open_dataset
from stemvane.config import MeasureConfig
from stemvane.evaluation.com_agreement import neighbour_mean
from stemvane.reduction.prepare import prepare_scan
from stemvane.simulation.simulate import simulate
from stemvane.simulation.synthetic import synthetic
from stemvane.workflow.pipeline import demo_config

__all__ = ["DATA_SETS", "RECORDED", "SPEED_SETS", "DataSet", "Known", "prepare"]

N_PIXELS = 16
HELD_OUT = 0.1
# electrons per pattern for which noiseless patterns are scored
NOMINAL_DOSE = 20_000.0
QUICK = (24, 24)
DETECTOR = (48, 48)
RECORDED = ROOT.parent / "shared" / "data" / "rotavirus_cryo_127x127.hspy"


@dataclass(frozen=True)
class DataSet:
    """How to make one, and which table it belongs to."""

    title: str
    kind: str
    settings: dict[str, Any]
    long: bool = False


DATA_SETS = {
    "graphene": DataSet("Graphene, noiseless", "graphene", {}, long=True),
    "graphene-100k": DataSet("Graphene, 100,000 electrons per pattern", "graphene", {"dose": 100_000.0}),
    "graphene-20k": DataSet("Graphene, 20,000 electrons per pattern", "graphene", {"dose": 20_000.0}),
    "graphene-4k": DataSet("Graphene, 4,000 electrons per pattern", "graphene", {"dose": 4_000.0}),
    "analytic": DataSet("Analytic patterns, 20,000 electrons", "analytic", {}, long=True),
    "analytic-fixed": DataSet(
        "Analytic patterns, part of whose content does not turn, 20,000 electrons",
        "analytic",
        {"n_fixed": 1},
        long=True,
    ),
    "twofold": DataSet("Analytic patterns of 2-fold symmetry, 20,000 electrons", "analytic", {"symmetry": 2}),
    "threefold": DataSet("Analytic patterns of 3-fold symmetry, 20,000 electrons", "analytic", {"symmetry": 3}),
    "sixfold": DataSet("Analytic patterns of 6-fold symmetry, 20,000 electrons", "analytic", {"symmetry": 6}),
    "rotavirus": DataSet("Recorded scan of rotavirus", "recorded", {}),
    "underfocus": DataSet("Graphene, defocus +80 Å, noiseless", "graphene", {"defocus": 80.0}),
    "overfocus": DataSet("Graphene, defocus -50 Å, noiseless", "graphene", {"defocus": -50.0}),
    "source": DataSet("Graphene, source of 0.5 Å, noiseless", "graphene", {"source_size": 0.5}),
}

SPEED_SETS = {"speed-64": 64, "speed-12": 12}
"""Graphene on square detectors of so many pixels a side, for throughput alone."""
# patterns that the slow programs train on there
N_SPEED = 512


@dataclass(frozen=True)
class Known:
    """What the scores need of a data set; patterns are flattened, one row per probe position.

    Attributes
    ----------
    patterns : ndarray of float32, shape (n, n_pixels, n_pixels)
        Patterns as the models see them, mean intensity per pixel area.
    target : ndarray of float32, shape (n, n_pixels**2)
        What predictions are held against: the noiseless patterns, or for recorded data the mean of the neighbours'.
    training : ndarray of bool, shape (n,)
        Positions to learn from; the others are held out.
    angle, weight, use, content : ndarray, shape (n,)
        Known angle in rad, its weight, where the median is taken, and the quantity that latents are correlated with.
    com_angle, com_magnitude : ndarray of float, shape (n,)
        The measured centre of mass.
    about : dict
        ``symmetry``, ``scan_shape``, ``counts`` (counts per sample and unit of the patterns; None for recorded data),
        ``bound_deg`` (of the median angle error, None where there is none) and the words for reference and content.
    """

    patterns: Any
    target: Any
    training: Any
    angle: Any
    weight: Any
    use: Any
    content: Any
    com_angle: Any
    com_magnitude: Any
    about: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Known:
        """Read what `prepare` wrote."""
        arrays = dict(np.load(folder / "known.npz"))
        del arrays["noise"]
        return cls(**arrays, about=json.loads((folder / "about.json").read_text(encoding="utf-8")))


def prepare(name: str, folder: Path, *, quick: bool) -> None:
    """Make a data set's folder; it is there when ``about.json`` is."""
    if name in SPEED_SETS:
        prepare_speed(name, folder, quick=quick)
        return
    chosen = DATA_SETS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make: Callable[..., Any] = {"graphene": _graphene, "analytic": _analytic, "recorded": _recorded}[chosen.kind]
    dataset, reference = make(chosen.settings, quick)
    measurements = measure(dataset, config=MeasureConfig(n_pixels=N_PIXELS))
    measurements.write(zarr.open_group(folder / "measurements.zarr", mode="w"))
    patterns, target = _patterns(measurements)
    n = len(patterns)
    training = np.ones(n, bool)
    training[np.random.default_rng(0).choice(n, round(HELD_OUT * n), replace=False)] = False
    reference = reference(measurements) if callable(reference) else reference
    about = reference.pop("about") | {"name": name, "title": chosen.title, "scan_shape": measurements.scan_shape}
    if chosen.kind != "recorded":
        grid, dose = measurements.pixel_grid, dataset.electrons_per_pattern
        about["counts"] = grid.sample_area * (1.0 if dose else NOMINAL_DOSE)
    arrays = {key: np.asarray(value).ravel() for key, value in reference.items()}
    noise = 0.0 if measurements.noiseless else _noise(measurements.pixels)
    np.savez(
        folder / "known.npz",
        patterns=patterns,
        target=target,
        training=training,
        noise=noise,
        com_angle=measurements.com_angle.ravel(),
        com_magnitude=measurements.com_magnitude.ravel(),
        **arrays,
    )
    (folder / "about.json").write_text(json.dumps(about, indent=1, default=float) + "\n", encoding="utf-8")


def prepare_speed(name: str, folder: Path, *, quick: bool) -> None:
    """Patterns pixel by pixel as the detector has them, and what `Known` needs, without a truth."""
    n = SPEED_SETS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = demo_config().simulation
    dataset = simulate(config, detector_shape=(n, n), **({"scan_shape": QUICK} if quick else {}))
    outer = config.detector_outer / config.convergence_semiangle
    measurements = measure(dataset, config=MeasureConfig(n_pixels=n, pixels_outer=outer))
    measurements.write(zarr.open_group(folder / "measurements.zarr", mode="w"))
    training = np.arange(measurements.n_patterns) < N_SPEED
    nothing = np.full(measurements.n_patterns, np.nan)
    names = ("target", "angle", "weight", "use", "content", "com_angle", "com_magnitude")
    patterns = np.asarray(measurements.pixels[:], np.float32).reshape(-1, n, n)
    np.savez(folder / "known.npz", patterns=patterns, training=training, noise=0.0, **dict.fromkeys(names, nothing))
    about = {"name": name, "title": f"{n} x {n} pixels", "scan_shape": measurements.scan_shape}
    (folder / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def _patterns(measurements: Measurements) -> tuple[Any, Any]:
    pixels = np.asarray(measurements.pixels[:], np.float32)
    if measurements.expectation is not None:
        target = np.asarray(measurements.expectation.pixels[:], np.float32)
    else:
        target = pixels if measurements.noiseless else neighbour_mean(pixels).astype(np.float32)
    n = measurements.n_patterns
    return pixels.reshape(n, N_PIXELS, N_PIXELS), target.reshape(n, -1)


def _noise(pixels: Any) -> float:
    """Standard deviation of a sample's noise, from each pattern's difference to the mean of its neighbours."""
    difference = np.asarray(pixels[:], float) - neighbour_mean(np.asarray(pixels[:], float))
    return float(np.sqrt(np.mean(difference[1:-1, 1:-1] ** 2) / (1 + 1 / 8)))


def _graphene(settings: dict[str, Any], quick: bool) -> tuple[Dataset4D, Callable[[Measurements], dict[str, Any]]]:
    config = demo_config().simulation
    dataset = simulate(config, **settings, **({"scan_shape": QUICK} if quick else {}))
    dose = settings.get("dose")

    def reference(measurements: Measurements) -> dict[str, Any]:
        truth = measurements.expectation or measurements
        length = truth.com_magnitude
        step = {"step": 0.06} if quick else {}
        bound = None if dose is None else MEDIAN_OF_DEVIATION * graphene_bound(**step) / dose**0.5
        about = {"symmetry": 1, "bound_deg": bound, "dose": dose, "reference": "noiseless COM", "content": "its length"}
        use = length > 0.2 * length.max()
        return {"angle": truth.com_angle, "weight": length, "use": use, "content": length, "about": about}

    return dataset, reference


def _analytic(settings: dict[str, Any], quick: bool) -> tuple[Dataset4D, dict[str, Any]]:
    shape = QUICK if quick else (64, 64)
    dataset, truth = synthetic(shape, DETECTOR, dose=NOMINAL_DOSE, **settings)
    symmetry = settings.get("symmetry", 1)
    bound = MEDIAN_OF_DEVIATION * analytic_bound(truth, DETECTOR, symmetry) / NOMINAL_DOSE**0.5
    everywhere = np.ones(shape, bool)
    about = {
        "symmetry": symmetry,
        "bound_deg": bound,
        "dose": NOMINAL_DOSE,
        "reference": "known angle",
        "content": "first structure's amplitude",
    }
    reference = {"angle": truth.angle, "weight": everywhere, "use": everywhere, "content": truth.content[0]}
    return dataset, reference | {"about": about}


def _recorded(settings: dict[str, Any], quick: bool) -> tuple[Dataset4D, Callable[[Measurements], dict[str, Any]]]:
    """Every other column of the scan; the columns between them, which no model sees, give the reference."""
    config = Config().replace(source={"path": str(RECORDED)})
    if quick:
        config = config.replace(preparation={"scan_region": (60, 60 + QUICK[0], 50, 51 + 2 * QUICK[1])})
    full_scan = prepare_scan(open_dataset(RECORDED), config.preparation)
    step_y, step_x = full_scan.calibration.scan_step
    dataset = replace(full_scan, data=full_scan.data[:, :-1:2], image=None).recalibrate(scan_step=(step_y, 2 * step_x))

    def reference(measurements: Measurements) -> dict[str, Any]:
        deflection = measure(full_scan, (), polar=False).deflection
        unseen = np.zeros(full_scan.scan_shape)
        unseen[:, 1::2] = 1
        beside = np.ones((3, 3))
        beside[:, 1] = 0
        count = ndimage.convolve(unseen, beside, mode="constant")[:, :-1:2]
        total = ndimage.convolve(deflection * unseen[..., None], beside[..., None], mode="constant")[:, :-1:2]
        field = total / count[..., None]
        length = np.linalg.norm(field, axis=-1)
        angle = np.arctan2(-field[..., 0], field[..., 1])
        about = {
            "symmetry": 1,
            "bound_deg": None,
            "dose": None,
            "counts": None,
            "reference": "mean COM of the neighbours in the columns that no model sees",
            "content": "its length",
        }
        use = length > 0.2 * np.quantile(length, 0.99)
        return {"angle": angle, "weight": length, "use": use, "content": length, "about": about}

    return dataset, reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*DATA_SETS, *SPEED_SETS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    prepare(chosen.name, chosen.folder, quick=chosen.quick)


if __name__ == "__main__":
    main()

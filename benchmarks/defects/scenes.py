"""Scenes of the comparison of defect searches: which there are, and their patterns at every dose."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from stemvane import open_dataset
from stemvane.config import SimulationConfig
from stemvane.data.dataset import Dataset4D
from stemvane.errors import ConfigError
from stemvane.io.files import save_dataset
from stemvane.simulation.optics import poisson_counts
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.simulate import simulate

__all__ = ["DOSES", "EXTENT", "KINDS", "N_BROKEN", "N_PRISTINE", "STEPS", "Scene", "expectation", "recorded", "scenes"]

KINDS = ("N", "B", "P", "Si-C3", "Si-C4", "vacancy", "divacancy", "stone-wales")
# a multiple of both steps, so that a scene's defects lie at the same places at both
EXTENT = 21.6
STEPS = (0.16, 0.3)
DOSES: tuple[float | None, ...] = (None, 100_000.0, 30_000.0, 10_000.0, 3_000.0)
N_BROKEN, N_PRISTINE = 20, 5
# of one kind, as many as find room in nearly every draw, so that many pairs at different turns come about
N_TURNED = 6


@dataclass(frozen=True)
class Scene:
    """One specimen.

    Attributes
    ----------
    name : str
        ``broken-3``, ``pristine-0`` or ``turned-vacancy``.
    seed : int
        Random seed of the places of its defects, and of the counts.
    defects : dict of str to int
        How many of which kind.
    """

    name: str
    seed: int
    defects: dict[str, int]

    @property
    def family(self) -> str:
        """``broken``, ``pristine`` or ``turned``."""
        return self.name.partition("-")[0]


def scenes(n_broken: int = N_BROKEN, n_pristine: int = N_PRISTINE) -> list[Scene]:
    """All scenes, a pristine one after every fourth with defects, those of one kind each last."""
    ordered, pristine = [], [Scene(f"pristine-{i}", 500 + i, {}) for i in range(n_pristine)]
    for i, seed in enumerate(islice(filter(finds_room, count()), n_broken)):
        ordered.append(Scene(f"broken-{seed}", seed, mixed(seed)))
        if i % 4 == 0 and pristine:
            ordered.append(pristine.pop(0))
    return ordered + pristine + [Scene(f"turned-{kind}", 700 + i, {kind: N_TURNED}) for i, kind in enumerate(KINDS)]


def finds_room(seed: int) -> bool:
    """Whether the defects of a seed fit into the scan."""
    try:
        build_structure(scan_extent=(EXTENT, EXTENT), defects=mixed(seed), seed=seed)
    except ConfigError:
        return False
    return True


def mixed(seed: int) -> dict[str, int]:
    """4 to 6 kinds, one of them twice in every other scene: 4 to 7 defects.

    Seeds whose defects find no room are left out.
    """
    kinds = np.random.default_rng([seed, 17]).permutation(KINDS)[: 4 + seed % 3].tolist()
    counts = dict.fromkeys(kinds, 1)
    if seed % 2:
        counts[kinds[0]] += 1
    return counts


def expectation(scene: Scene, step: float, folder: Path) -> Dataset4D:
    """Noiseless patterns of a scene, simulated once and kept as a Zarr folder."""
    path = folder / f"{scene.name}-{step:g}.zarr"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        n = round(EXTENT / step)
        config = SimulationConfig(
            scan_shape=(n, n), scan_extent=(EXTENT, EXTENT), defects=scene.defects, placement_seed=scene.seed
        )
        save_dataset(simulate(config), path)
    return open_dataset(path)


def recorded(dataset: Dataset4D, dose: float | None, seed: int) -> Dataset4D:
    """Counts of a dose in electrons per pattern, or the noiseless patterns themselves."""
    patterns: Any = np.asarray(dataset.data.compute())
    if dose is not None:
        patterns *= np.float32(dose)
        patterns = poisson_counts(patterns, 1000 * seed + round(np.log10(dose) * 100))
    return Dataset4D.from_array(
        patterns,
        calibration=dataset.calibration,
        name=dataset.name,
        atoms=dataset.atoms,
        metadata={"simulated": True},
        electrons_per_pattern=dose,
        noiseless=dose is None,
    )

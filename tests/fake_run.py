"""A run with made-up but plausible content, for the tests of whatever reads runs."""

from pathlib import Path
from typing import Any

import numpy as np

from stemvane.config import Config
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import ScanAtoms
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.field.maps import add_field, rotation_metrics
from stemvane.geometry.polar import PolarGrid
from stemvane.runs.run import Run

BOND = 1.42


def graphene_atoms(extent: tuple[float, float]) -> ScanAtoms:
    """Graphene over a scan of this extent and a little around it, with one silicon atom."""
    width = BOND * np.sqrt(3)
    cell = np.array([(BOND, 0), (2 * BOND, 0), (BOND / 2, width / 2), (5 * BOND / 2, width / 2)])
    rows, columns = int(extent[0] / (3 * BOND)) + 3, int(extent[1] / width) + 3
    origins = [(3 * BOND * row, width * column) for row in range(-1, rows) for column in range(-1, columns)]
    positions = (np.array(origins)[:, None] + cell).reshape(-1, 2)
    numbers = np.full(len(positions), 6)
    middle = np.hypot(*(positions - np.array(extent) / 2).T)
    numbers[middle.argmin()] = 14
    return ScanAtoms(numbers=numbers, positions=positions, heights=np.zeros(len(positions)))


def com_field(atoms: ScanAtoms, shape: tuple[int, int], step: tuple[float, float]) -> np.ndarray:
    """COM that points at the atoms, shape ``(scan_y, scan_x, 2)``."""
    probe = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, step, strict=True)), indexing="ij"), -1)
    field = np.zeros((*shape, 2))
    for position, number in zip(atoms.positions, atoms.numbers, strict=True):
        away = position - probe
        field += number / 6 * away * np.exp(-(away**2).sum(-1) / (2 * 0.45**2))[..., None]
    return field


def manifold_of(n_latent: int, n: int, grid: PolarGrid, detector: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Discs whose overlaps change with the latents."""
    shape = {0: (1, 1), 1: (1, n)}.get(n_latent, (n, n))
    latents = np.zeros((*shape, n_latent), np.float32)
    if n_latent > 0:
        latents[..., 0] = np.linspace(-2, 2, n)
    if n_latent > 1:
        latents[..., 1] = np.linspace(-2, 2, n)[:, None]
    y, x = np.indices(detector, dtype=float)
    up, right = grid.axis[0] - y, x - grid.axis[1]
    radius = np.hypot(up, right)
    disc = 1 / (1 + np.exp((radius - 0.47 * grid.outer) * 2))
    first, second = (latents[..., i] if n_latent > i else np.zeros(shape) for i in (0, 1))
    overlap = first[..., None, None] * right / grid.outer + 0.4 * second[..., None, None] * np.cos(
        3 * np.arctan2(up, right)
    ) * (radius / grid.outer)
    pattern = disc * (1 + 0.35 * overlap) * 7e-4 + 1e-5
    return np.where(radius <= grid.outer, pattern, np.nan), latents


def make_run(
    path: Path,
    *,
    n_latent: int = 2,
    shape: tuple[int, int] = (24, 24),
    detector: tuple[int, int] = (32, 32),
    n_manifold: int = 3,
    atoms: bool = True,
    known_step: bool = True,
    masked: bool = False,
    noise: float = 0.03,
    field: bool = False,
    finish: bool = True,
    known: dict[str, Any] | None = None,
) -> Run:
    """Write a run as the pipeline does."""
    rng = np.random.default_rng(0)
    step = (10.5 / shape[0], 10.5 / shape[0])
    specimen = graphene_atoms((shape[0] * step[0], shape[1] * step[1]))
    com = com_field(specimen, shape, step)
    magnitude = np.hypot(com[..., 0], com[..., 1])
    known = {"optical_axis": ((detector[0] - 1) / 2, (detector[1] - 1) / 2)} | (known or {})
    axis = known["optical_axis"]
    grid = PolarGrid(axis=axis, outer=detector[1] / 2, n_radial=6, n_azimuthal=16)
    measurements = Measurements(
        maps={
            "total": np.ones(shape),
            "com_y": com[..., 0],
            "com_x": com[..., 1],
            "bright_field": 1 - 0.1 * magnitude,
            "annular_dark_field": 0.02 + 0.01 * magnitude.max() - 0.01 * magnitude,
        },
        units=dict.fromkeys(("total", "bright_field", "annular_dark_field"), "fraction")
        | {"total": "counts", "com_y": "mrad", "com_x": "mrad"},
        polar=np.arange(96 * shape[0] * shape[1], dtype=np.float32).reshape(*shape, 6, 16),
        grid=grid,
        calibration=Calibration(scan_step=step if known_step else None, disc_radius=0.47 * grid.outer, **known),
        mean_pattern=np.ones(detector),
        atoms=specimen if atoms else None,
        noiseless=True,
    )
    if field:
        measurements = add_field(measurements)
    angle = np.angle(np.exp(1j * (measurements.com_angle + 0.2 + noise * rng.standard_normal(shape))))
    latents = rng.standard_normal((*shape, n_latent)) * 0.2
    if n_latent:
        latents[..., 0] += 4 * (magnitude - magnitude.mean())
    if masked:
        angle[: shape[0] // 4, : shape[1] // 3] = np.nan
        latents[: shape[0] // 4, : shape[1] // 3] = np.nan
    embedding = Embedding(
        latents=latents,
        latent_std=np.full((*shape, n_latent), 0.1),
        angle=angle,
        angle_std=np.full(shape, 0.05),
        angle_posterior=np.full((*shape, 16), 1 / 16),
        log_evidence=np.zeros(shape),
    )
    run = Run.create(path, Config(), command="stemvane run")
    with run.stage("measure"):
        measurements.write(run.store("measurements"))
    with run.stage("learn"):
        run.write_embedding(embedding, *manifold_of(n_latent, n_manifold, grid, detector))
    epochs = np.arange(1, 41)
    run.write_history(
        {
            "total": 900 + 400 * np.exp(-epochs / 8),
            "reconstruction": 892 + 404 * np.exp(-epochs / 8),
            "kl_latent": 5 * (1 - np.exp(-epochs / 5)),
            "kl_angle": 3 * (1 - np.exp(-epochs / 3)),
        }
    )
    pearson = [
        float(np.corrcoef(*(a[np.isfinite(angle)] for a in (latents[..., i], magnitude)))[0, 1])
        for i in range(n_latent)
    ]
    run.write_metrics(
        rotation_metrics(measurements)
        | {
            "n_latent": n_latent,
            "pearson_r": pearson,
            "angle_sign": 1,
            "angle_offset_deg": float(np.degrees(0.2)),
            "angle_error_median_deg": float(np.degrees(0.67 * noise)),
        }
    )
    if finish:
        run.finish()
    return run

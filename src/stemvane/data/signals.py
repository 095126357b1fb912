"""Signals: the maps and patterns of a run as arrays with calibrated axes, as other programs take them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.quantity_map import QuantityMap
from stemvane.extras import require_package

__all__ = ["Axis", "Signal", "hyperspy_fields", "hyperspy_signals", "maps_of", "origin_of", "patterns_of", "stacks_of"]

_ORDER = ("total", "com_y", "com_x", "bright_field", "annular_dark_field")
_CONVENTIONS = (
    "y is the row index and grows downwards; directions and rotations are counter-clockwise on the screen, 0 to the "
    "right; 0 on both detector axes is the optical axis; maps of COM and angle are in the detector's frame, "
    "those of the field in the scan's"
)


class _HasResults(Protocol):
    """What is asked of a run; `run.py` stands above this module."""

    @property
    def path(self) -> Path: ...
    @property
    def manifest(self) -> dict[str, Any]: ...
    @property
    def measurements(self) -> Measurements: ...
    @property
    def embedding(self) -> Embedding: ...
    @property
    def quantity(self) -> QuantityMap | None: ...
    @property
    def manifold(self) -> NDArray[np.float32]: ...
    @property
    def manifold_latents(self) -> NDArray[np.float32]: ...
    @property
    def metrics(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Axis:
    """One axis of a signal: index ``i`` stands for ``offset + scale * i`` in `unit`.

    Attributes
    ----------
    name : str
        Name of the axis, the same in every signal that has it.
    unit : str
        ``Å``, ``mrad``, ``rad``, ``px``, or empty for a plain number.
    size : int
        Number of positions.
    scale, offset : float
        Step and first position, in `unit`.
    """

    name: str
    unit: str
    size: int
    scale: float = 1.0
    offset: float = 0.0

    @property
    def positions(self) -> NDArray[np.float64]:
        """All positions in `unit`, shape ``(size,)``."""
        return np.asarray(self.offset + self.scale * np.arange(self.size), np.float64)


@dataclass(frozen=True, eq=False)
class Signal:
    """An array with a name, a unit and calibrated axes.

    Attributes
    ----------
    name : str
        A word that is also a file name.
    values : ndarray or zarr.Array of float32
        Real numbers; NaN where nothing is known.
    unit : str
        Unit of the values, empty for a plain number.
    axes : tuple of Axis
        One for each axis of the array, in its order.
    n_navigation : int
        How many leading axes say which picture it is, as HyperSpy's navigation axes do.
    """

    name: str
    values: Any
    unit: str
    axes: tuple[Axis, ...]
    n_navigation: int = 0


def maps_of(run: _HasResults) -> list[Signal]:
    """All maps over the scan: measured, derived and learned.

    Parameters
    ----------
    run : Run
        Finished or about to be.

    Returns
    -------
    list of Signal
        Shape ``(scan_y, scan_x)`` each: the measured maps, ``com_magnitude``, ``com_angle``, ``image`` where there is
        one, ``angle``, ``angle_std``, ``deflection_angle`` and ``deflection_angle_std`` where known, ``log_evidence``,
        ``kind`` (0 for none of them) and ``kind_probability``, that of the kind, in a model of kinds,
        ``quantity`` and ``quantity_std`` where it is known at some positions, and ``latent_1``, ``latent_std_1`` and so
        on.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    measured, learned = run.measurements, run.embedding
    names = sorted(measured.maps, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    planes = [(name, measured.maps[name], measured.units[name]) for name in names]
    planes += [("com_magnitude", measured.com_magnitude, measured.com_unit), ("com_angle", measured.com_angle, "rad")]
    if measured.image is not None:
        planes.append(("image", measured.image, ""))
    planes += [("angle", learned.angle, "rad"), ("angle_std", learned.angle_std, "rad")]
    if learned.deflection_angle is not None and learned.deflection_angle_std is not None:
        planes.append(("deflection_angle", learned.deflection_angle, "rad"))
        planes.append(("deflection_angle_std", learned.deflection_angle_std, "rad"))
    planes.append(("log_evidence", learned.log_evidence, "nat"))
    if learned.kind is not None and learned.kind_probability is not None:
        planes.append(("kind", np.where(learned.kind >= 0, learned.kind, np.nan), ""))
        planes.append(("kind_probability", np.asarray(learned.kind_probability).max(axis=-1), ""))
    if run.quantity is not None:
        planes.append(("quantity", run.quantity.mean, run.quantity.unit))
        planes.append(("quantity_std", run.quantity.std, run.quantity.unit))
    for index in range(learned.n_latent):
        planes.append((f"latent_{index + 1}", learned.latents[..., index], ""))
        planes.append((f"latent_std_{index + 1}", learned.latent_std[..., index], ""))
    axes = _scan_axes(measured)
    return [Signal(name, np.asarray(values, np.float32), unit, axes) for name, values, unit in planes]


def patterns_of(run: _HasResults) -> list[Signal]:
    """Pictures on the detector: the mean pattern, and the decoded latent manifold.

    Parameters
    ----------
    run : Run
        Finished or about to be.

    Returns
    -------
    list of Signal
        ``mean_pattern``, shape ``(k_y, k_x)``, and ``manifold``, shape ``(n_rows, n_columns, k_y, k_x)``, whose first
        axes carry the latents that are decoded. Detector axes are in mrad from the optical axis, px where the pixel
        size is unknown.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    measured, latents = run.measurements, run.manifold_latents
    detector = _detector_axes(measured)
    unit = measured.units["total"]
    rows, columns = latents.shape[:2]
    down = _latent_axis(1, latents[:, 0], "manifold_row", rows)
    along = _latent_axis(0, latents[0], "manifold_column", columns)
    return [
        Signal("mean_pattern", np.asarray(measured.mean_pattern, np.float32), unit, detector),
        Signal("manifold", run.manifold, unit, (down, along, *detector), n_navigation=2),
    ]


def stacks_of(run: _HasResults) -> list[Signal]:
    """What is large: an array at every probe position.

    Parameters
    ----------
    run : Run
        Finished or about to be.

    Returns
    -------
    list of Signal
        ``polar``, shape ``(scan_y, scan_x, n_radial, n_azimuthal)``, which stays on disk, and ``angle_posterior``,
        shape ``(scan_y, scan_x, n_angles)``.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    measured, posterior = run.measurements, run.embedding.angle_posterior
    grid, scan = measured.grid, _scan_axes(measured)
    pixel = measured.calibration.pixel_size
    width, unit = (1.0, "px") if pixel is None else (pixel[1], "mrad")
    ring = grid.ring_width * width
    circle = 2 * math.pi
    polar_axes = (
        Axis("radius", unit, grid.n_radial, ring, ring / 2),
        Axis("azimuth", "rad", grid.n_azimuthal, circle / grid.n_azimuthal),
    )
    n_angles = posterior.shape[-1]
    return [
        Signal("polar", measured.polar, f"{measured.units['total']} per px", (*scan, *polar_axes), n_navigation=2),
        Signal(
            "angle_posterior",
            np.asarray(posterior, np.float32),
            "",
            (*scan, Axis("posterior_angle", "rad", n_angles, circle / n_angles)),
            n_navigation=2,
        ),
    ]


def origin_of(run: _HasResults) -> dict[str, Any]:
    """Where the numbers come from, in plain values.

    Parameters
    ----------
    run : Run
        Finished or about to be.

    Returns
    -------
    dict
        ``run`` (path), ``data`` (name of the data set), ``version`` of stemvane that made the run and ``exported_by``,
        ``conventions`` in words, ``calibration`` (Å, mrad, px, eV, rad) and ``metrics``, None where one is missing.

    Raises
    ------
    RunError
        If a part of the run is missing or damaged.
    """
    return {
        "run": str(run.path),
        "data": run.measurements.name,
        "version": run.manifest.get("versions", {}).get("stemvane"),
        "exported_by": version("stemvane"),
        "conventions": _CONVENTIONS,
        "calibration": run.measurements.calibration.to_dict(),
        "metrics": dict(run.metrics),
    }


def hyperspy_fields(signal: Signal, origin: Mapping[str, Any], calibration: Calibration) -> dict[str, Any]:
    """What HyperSpy calls axes, metadata and original metadata of a signal.

    Parameters
    ----------
    signal : Signal
        A map or a pattern.
    origin : mapping
        Origin of the numbers, as `origin_of` gives it.
    calibration : Calibration
        Energy (eV) and semi-angle (mrad); HyperSpy has the energy in keV.

    Returns
    -------
    dict
        ``axes``, ``metadata`` and ``original_metadata`` as HyperSpy's signals and files take them.
    """
    axes = [
        {
            "_type": "UniformDataAxis",
            "name": axis.name,
            "units": axis.unit,
            "navigate": index < signal.n_navigation,
            "is_binned": False,
            "size": axis.size,
            "scale": axis.scale,
            "offset": axis.offset,
        }
        for index, axis in enumerate(signal.axes)
    ]
    beam: dict[str, Any] = {"acquisition_mode": "STEM"}
    if calibration.energy is not None:
        beam["beam_energy"] = calibration.energy / 1e3
    if calibration.convergence_semiangle is not None:
        beam["convergence_angle"] = calibration.convergence_semiangle
    words = signal.name.replace("_", " ")
    metadata = {
        "General": {"title": signal.name},
        "Signal": {"signal_type": "", "quantity": f"{words} ({signal.unit})" if signal.unit else words},
        "Acquisition_instrument": {"TEM": beam},
    }
    return {"axes": axes, "metadata": metadata, "original_metadata": {"stemvane": dict(origin)}}


def hyperspy_signals(run: _HasResults) -> dict[str, Any]:
    """Maps and patterns as HyperSpy signals.

    Parameters
    ----------
    run : Run
        Finished or about to be.

    Returns
    -------
    dict of str to hyperspy.api.signals.Signal2D
        What `maps_of` and `patterns_of` list, by name, in memory; axes in Å and mrad, energy in keV and semi-angle in
        mrad where they are known.

    Raises
    ------
    MissingPackageError
        If HyperSpy is not installed.
    RunError
        If a part of the run is missing or damaged.
    """
    with require_package("to_hyperspy", "hyperspy"):
        from hyperspy.api import signals
    origin, calibration = origin_of(run), run.measurements.calibration
    return {
        signal.name: signals.Signal2D(signal.values, **hyperspy_fields(signal, origin, calibration))
        for signal in [*maps_of(run), *patterns_of(run)]
    }


def _scan_axes(measured: Measurements) -> tuple[Axis, Axis]:
    step, (rows, columns) = measured.calibration.scan_step, measured.scan_shape
    (step_y, step_x), unit = ((1.0, 1.0), "px") if step is None else (step, "Å")
    return Axis("scan_y", unit, rows, step_y), Axis("scan_x", unit, columns, step_x)


def _detector_axes(measured: Measurements) -> tuple[Axis, Axis]:
    """Detector axes, 0 where the polar grid has the optical axis: it knows it even where the file did not."""
    pixel, (rows, columns), (y, x) = measured.calibration.pixel_size, measured.detector_shape, measured.grid.axis
    (height, width), unit = ((1.0, 1.0), "px") if pixel is None else (pixel, "mrad")
    return Axis("k_y", unit, rows, height, -y * height), Axis("k_x", unit, columns, width, -x * width)


def _latent_axis(index: int, latents: NDArray[np.floating[Any]], name: str, size: int) -> Axis:
    """The side of the manifold along which a latent changes, a plain count where the model does not have it."""
    if latents.shape[-1] <= index:
        return Axis(name, "", size)
    values = latents[:, index].astype(np.float64)
    step = (values[-1] - values[0]) / (size - 1) if size > 1 else 1.0
    return Axis(f"manifold_latent_{index + 1}", "", size, float(step) or 1.0, float(values[0]))

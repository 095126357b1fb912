"""Files: `open_dataset` and `save_dataset`.

The format is recognised by what a file holds, not by its name. `docs/format.md` describes our own Zarr layout.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import SourceConfig
from stemvane.data.arguments import require
from stemvane.data.dataset import Dataset4D, as_lazy
from stemvane.data.progress import Progress, counting_bar
from stemvane.errors import CalibrationError, DataError, FileFormatError
from stemvane.geometry.disc import find_disc
from stemvane.io.atomic import read_json
from stemvane.io.formats import look, recognise
from stemvane.io.images import read_image
from stemvane.io.on_disk import file_errors
from stemvane.io.places import Place
from stemvane.io.request import Request
from stemvane.io.zarr_layout import FORMAT, write_zarr

__all__ = ["open_dataset", "open_source", "place_for_dataset", "save_dataset", "size_on_disk"]

# any number of frames, as a scan of one line
_LINE = (1, -1)


def open_dataset(
    path: str | os.PathLike[str],
    *,
    scan_shape: tuple[int, int] | None = None,
    dataset: str | None = None,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    skip_frames: int = 0,
    ignore_extra: bool = False,
    flyback: int = 0,
    sensor: str | os.PathLike[str] | None = None,
    background: str | os.PathLike[str] | None = None,
    image: str | os.PathLike[str] | None = None,
    energy: float | None = None,
    convergence_semiangle: float | None = None,
    scan_step: float | tuple[float, float] | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    optical_axis: tuple[float, float] | None = None,
    disc_radius: float | None = None,
    scan_rotation: float | None = None,
) -> Dataset4D:
    """Open a 4D-STEM scan; patterns stay on disk until they are needed.

    Parameters
    ----------
    path : str or path
        A file or folder of one of the formats in ``docs/formats.md``: those of Merlin, EMPAD, Gatan, Velox, TIA,
        Dectris, the 4D Camera, TVIPS and NanoMegas, MRC, py4DSTEM, Prismatic, abTEM, HyperSpy, NeXus, HDF5, Zarr, TIFF,
        NumPy, or raw binary. It is recognised by the content.
    scan_shape : tuple of int, optional
        Probe positions ``(y, x)``, for a stack of frames that does not say it, or says it wrong.
    dataset : str, optional
        Path of the array within HDF5 or Zarr, its name in a ``.npz``, or its number or name in a ``.dm4``, where the
        file holds several.
    shape : tuple of int, optional
        Shape of raw binary, the fastest axis last: three numbers for a stack, four for a scan.
    dtype : str, optional
        Number type of raw binary, such as ``<u2`` or ``float32``.
    skip_frames : int
        Frames at the beginning of a stack that are not part of the scan.
    ignore_extra : bool
        Leave out frames after the scan, where a stack holds more than `scan_shape` or the file itself says.
    flyback : int
        Frames at the end of each scan line to leave out of a stack, recorded while the beam went back. They are not
        counted in `scan_shape`.
    sensor : str or path, optional
        Calibration of an EMPAD-G2's sensor, an HDF5 file or a folder of ``.r32`` files, for a ``.raw`` of what it
        recorded before its calibration.
    background : str or path, optional
        A ``.raw`` of the same detector without a beam, for the same purpose.
    image : str or path, optional
        A separately recorded image of the scan's shape (.npy, TIFF, PNG, .dm3), for example of annular dark field.
    energy : float, optional
        Beam energy in eV, such as 60e3. This number and those below take precedence over the file's.
    convergence_semiangle : float, optional
        Semi-angle of the probe-forming aperture in mrad.
    scan_step : float or tuple of float, optional
        Distance between neighbouring probe positions ``(y, x)`` in Å; one number stands for both axes.
    pixel_size : float or tuple of float, optional
        Angle between neighbouring detector pixels ``(y, x)`` in mrad; one number stands for both axes.
    optical_axis : tuple of float, optional
        Position of the optical axis ``(y, x)`` on the detector in pixels.
    disc_radius : float, optional
        Radius of the bright-field disc in pixels, along x.
    scan_rotation : float, optional
        Rotation from the detector to the scan in rad, counter-clockwise on the screen.

    Returns
    -------
    Dataset4D
        Lazy, in the order ``(scan_y, scan_x, k_y, k_x)``, with what the file knows of its calibration: steps in Å and
        mrad, energy in eV, semi-angle in mrad. No file is kept open. Where the recording ended before the scan did,
        `missing` tells the positions.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not of a format that stemvane reads.
    DataError
        If the file holds no real array with two scan and two detector axes, the shape of the scan is unknown or does
        not fit, or the image does not have it.
    CalibrationError
        If a given number is impossible or cannot be meant, such as an energy of 60 eV.

    Notes
    -----
    Nothing is ever unpickled. Damage within a compressed block shows when that block is read, then too as a
    `FileFormatError`.
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(
            f"open_dataset takes the path of a file, not a {type(path).__name__}; call measure, or "
            "Dataset4D.from_array to give an array its calibration"
        )
    user_values: dict[str, Any] = {
        "energy": energy,
        "convergence_semiangle": convergence_semiangle,
        "scan_step": scan_step,
        "pixel_size": pixel_size,
        "optical_axis": optical_axis,
        "disc_radius": disc_radius,
        "scan_rotation": scan_rotation,
    }
    source = Path(path)
    request = Request(
        source,
        scan_shape,
        dataset,
        shape,
        dtype,
        skip_frames,
        ignore_extra,
        flyback,
        None if sensor is None else os.fspath(sensor),
        None if background is None else os.fspath(background),
    )
    if min(skip_frames, flyback) < 0:
        raise DataError("source.skip_frames and source.flyback are numbers of frames; give 0 or more")
    with file_errors(source):
        head = look(source)
        opened = recognise(head, request).open(request)
    if scan_shape is not None and -1 not in scan_shape and opened.scan_shape != tuple(scan_shape):
        opened = _refold(opened, scan_shape)
    opened = opened.recalibrate(**{name: value for name, value in user_values.items() if value is not None})
    return opened if image is None else replace(opened, image=_scan_image(image, opened))


def open_source(config: SourceConfig) -> Dataset4D:
    """Open what a section [source] names, with the user's numbers over the file's.

    Parameters
    ----------
    config : SourceConfig
        The path, and what the user says of the file. A file of the probe in vacuum gives the optical axis and the disc
        radius, where these are not given.

    Returns
    -------
    Dataset4D
        `Dataset4D.origin` says where each number came from.

    Raises
    ------
    StemvaneError
        If the source cannot be opened, as for `open_dataset`.
    CalibrationError
        If no disc is found in the vacuum file.
    """
    opened = open_dataset(
        config.path,
        scan_shape=config.scan_shape,
        dataset=config.dataset,
        shape=config.shape,
        dtype=config.dtype,
        skip_frames=config.skip_frames,
        ignore_extra=config.ignore_extra,
        flyback=config.flyback,
        sensor=config.sensor or None,
        background=config.background or None,
        image=config.image or None,
    )
    if config.vacuum:
        opened = opened.recalibrate(origin="vacuum", **_vacuum(config.vacuum, opened))
    return opened.recalibrate(**config.calibration())


def size_on_disk(dataset: Dataset4D) -> int:
    """Bytes of the files that a data set was read from; 0 where it was read from none."""
    paths = dataset.files or (() if dataset.path is None else (dataset.path,))
    every = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(path.stat().st_size for path in every if path.is_file())


def _refold(opened: Dataset4D, scan_shape: tuple[int, int]) -> Dataset4D:
    """Return the same patterns as a scan of another shape, for a file whose own shape is wrong."""
    if math.prod(scan_shape) != opened.n_patterns or opened.missing is not None:
        y, x = opened.scan_shape
        raise DataError(
            f"{opened.path}: holds a scan of {y}x{x}, which does not make one of {scan_shape[0]}x{scan_shape[1]}; "
            "leave source.scan_shape out, or give a shape of as many positions"
        )
    flat = opened.data.reshape(*scan_shape, *opened.detector_shape)
    calibration = opened.calibration.replace(scan_step=None)
    patterns = as_lazy(flat, opened.name)
    return replace(opened, data=patterns, calibration=calibration, expectation=None, image=None, truth=None)


def _scan_image(path: str | os.PathLike[str], opened: Dataset4D) -> NDArray[np.float32]:
    image = np.asarray(read_image(Path(path)), np.float32)
    if image.shape != opened.scan_shape:
        raise DataError(
            f"{path}: the image has {image.shape[0]}x{image.shape[1]} pixels, the scan {opened.scan_shape[0]}x"
            f"{opened.scan_shape[1]} positions; crop or bin it to the scan"
        )
    return image


def _vacuum(path: str, opened: Dataset4D) -> dict[str, Any]:
    """Centre and radius of the disc in a file of the probe in vacuum: one pattern, a stack or a scan."""
    try:
        pattern = read_image(path).astype(np.float64)
    except (DataError, FileFormatError):
        frames = open_dataset(path, scan_shape=_LINE)
        pattern = np.asarray(frames.data.mean(axis=(0, 1), dtype=np.float64).compute())
    if pattern.shape != opened.detector_shape:
        raise DataError(
            f"{path}: the probe in vacuum has {pattern.shape[0]}x{pattern.shape[1]} pixels, the scan's patterns "
            f"{opened.detector_shape[0]}x{opened.detector_shape[1]}; record both with the same detector"
        )
    disc = find_disc(pattern, opened.calibration.pixel_aspect)
    if disc is None:
        raise CalibrationError(
            f"{path}: no disc is found in it; give source.optical_axis and source.disc_radius instead of source.vacuum"
        )
    return {"optical_axis": disc.centre, "disc_radius": disc.radius}


def save_dataset(
    dataset: Dataset4D,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Path:
    """Write a data set as a ``.zarr`` folder in the layout of ``docs/format.md``.

    The folder is written beside its place under a hidden name and renamed last, so that a killed write leaves nothing
    that looks complete.

    Parameters
    ----------
    dataset : Dataset4D
        Lazy data are computed block by block, data and noiseless patterns together.
    path : str or path
        Name of the folder, ending in ``.zarr``.
    overwrite : bool
        Replace an existing data set of the same name.
    progress : callable or bool, optional
        A function is called with the numbers of patterns done and in all. True shows a bar, False none; by default a
        bar is shown in a terminal and in a notebook.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileFormatError
        If the folder exists already or cannot be written, or is one that the data are read from.
    """
    require(dataset, Dataset4D, "save_dataset")
    inputs = [file for file in (dataset.path, *dataset.files) if file is not None]
    place = place_for_dataset(path, overwrite=overwrite, inputs=inputs)
    with (
        file_errors(place.path, "written", "check the disk and its permissions"),
        place.written_whole() as hidden,
        counting_bar(progress, "write") as count,
    ):
        write_zarr(dataset, hidden, count)
    return Path(path)


def place_for_dataset(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Sequence[str | os.PathLike[str]] = ()
) -> Place:
    """Refuse a name for a data set that cannot be written to, or under which something would be lost.

    Parameters
    ----------
    path : str or path
        Name of the folder, ending in ``.zarr``.
    overwrite : bool
        Replace an existing data set of the same name.
    inputs : sequence of str or path
        Files and folders that the data set is made from.

    Returns
    -------
    Place

    Raises
    ------
    FileFormatError
        If it is refused.
    """
    if Path(path).suffix != ".zarr":
        raise FileFormatError(f"{path}: data sets are saved as Zarr folders; give a name that ends in .zarr")
    return Place.checked(path, "data set", _is_dataset, FileFormatError, overwrite=overwrite, inputs=inputs)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder is a complete data set in our layout."""
    try:
        attributes = read_json(folder / "zarr.json")["attributes"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return isinstance(attributes, dict) and attributes.get("format") == FORMAT

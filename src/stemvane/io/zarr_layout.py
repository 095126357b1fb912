"""Our own Zarr layout of a data set, described in docs/format.md."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import compute
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D, pattern_chunks
from stemvane.data.findings import Finding
from stemvane.data.preparation_record import Preparation
from stemvane.data.specimen_zarr import read_atoms, write_atoms
from stemvane.data.truth_zarr import read_truth, write_truth
from stemvane.data.typical_pattern import TypicalPattern
from stemvane.errors import CalibrationError, FileFormatError
from stemvane.io.on_disk import OnDisk
from stemvane.io.request import Request
from stemvane.io.stack import refuse_frame_settings

__all__ = ["FORMAT", "FORMAT_VERSION", "open_zarr", "write_zarr"]

FORMAT = "stemvane-dataset"
FORMAT_VERSION = 1
_CONVENTIONS = (
    "Axis order (scan_y, scan_x, k_y, k_x); y is the row index and grows downwards; pairs are (y, x). "
    "Pixel centres have integer coordinates. Directions are counter-clockwise as seen on the screen, 0 to the right: "
    "atan2(-y, x). The centre of mass (COM) is the mean position minus the optical axis. scan_rotation is the angle "
    "by which a vector measured on the detector must be rotated, counter-clockwise on the screen, to be a vector in "
    "the scan."
)
_UNITS = {
    "scan_step": "Å",
    "pixel_size": "mrad",
    "optical_axis": "px",
    "disc_radius": "px",
    "convergence_semiangle": "mrad",
    "energy": "eV",
    "scan_rotation": "rad",
}


def open_zarr(request: Request) -> Dataset4D:
    """Open a folder that `write_zarr` wrote; patterns stay on disk.

    Raises
    ------
    FileFormatError
        If it is of a newer layout, or incomplete.
    """
    path = request.path
    attrs = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    if attrs.get("format_version") != FORMAT_VERSION:
        raise FileFormatError(
            f"{path}: written in version {attrs.get('format_version')} of the layout, this stemvane reads "
            f"{FORMAT_VERSION}; install a newer stemvane"
        )
    group = zarr.open_group(path, mode="r")
    # older files have these words among the metadata
    notes = {**attrs["metadata"], **attrs}
    preparation = attrs.get("preparation")
    try:
        calibration = Calibration.from_dict(attrs["calibration"])
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    data = _zarr_patterns(group, path, "data")
    refuse_frame_settings(request, data.shape)
    return Dataset4D(
        data=data,
        calibration=calibration,
        name=str(attrs["name"]),
        expectation=_zarr_patterns(group, path, "expectation") if "expectation" in group else None,
        atoms=read_atoms(group),
        image=np.asarray(group["image"][:]) if "image" in group else None,  # type: ignore[index]
        metadata=dict(attrs["metadata"]),
        path=path,
        bad_pixels=_mask(group, "bad_pixels"),
        missing=_mask(group, "missing"),
        beam_shift=_pairs(attrs.get("beam_shift")),
        typical_pattern=_typical(group),
        origins=dict(attrs.get("origins", {})),
        reciprocal_pixel=_pair(attrs.get("reciprocal_pixel")),
        electrons_per_pattern=notes.get("electrons_per_pattern"),
        noiseless=bool(notes.get("noiseless", False)),
        is_scan=bool(notes.get("is_scan", True)),
        preparation=None if preparation is None else Preparation.from_dict(preparation),
        findings=tuple(Finding.from_dict(record) for record in attrs.get("findings", [])),
        truth=read_truth(group),
    )


def _mask(group: zarr.Group, name: str) -> NDArray[np.bool_] | None:
    return np.asarray(group[name][:], bool) if name in group else None  # type: ignore[index]


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))


def _pairs(values: Any) -> tuple[tuple[float, float], ...] | None:
    return None if values is None else tuple((float(y), float(x)) for y, x in values)


def _typical(group: zarr.Group) -> TypicalPattern | None:
    if "typical_pattern" not in group:
        return None
    folder: Any = group["typical_pattern"]
    numbers = dict(folder.attrs)
    return TypicalPattern(
        image=np.asarray(folder["image"][:]),
        centre=(float(numbers["centre"][0]), float(numbers["centre"][1])),
        profile=np.asarray(folder["profile"][:]),
        step=float(numbers["step"]),
        aspect=float(numbers["aspect"]),
    )


def _zarr_patterns(group: zarr.Group, path: Path, key: str) -> da.Array:
    array = group[key]
    if not isinstance(array, zarr.Array):
        raise FileFormatError(f"{path}: '{key}' is no array; the data set is damaged, write it again")
    if array.nchunks_initialized < array.nchunks:
        # zarr would fill them with zeros without a word; we write every chunk, the empty ones too
        raise FileFormatError(
            f"{path}: {array.nchunks - array.nchunks_initialized} of {array.nchunks} chunks of '{key}' are missing; "
            "the folder is incomplete, copy it again"
        )
    return OnDisk(str(path.absolute()), key, "zarr", array.shape, np.dtype(array.dtype)).lazy(array.chunks)


def write_zarr(dataset: Dataset4D, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    """Write a data set into a new folder, block by block, data and noiseless patterns together."""
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    sources = {"data": dataset.data}
    if dataset.expectation is not None:
        sources["expectation"] = dataset.expectation
    arrays = {name: _create(group, name, source) for name, source in sources.items()}
    # blocks of the source are merged but never split, so that none is computed twice
    stored_chunks = arrays["data"].chunks
    sizes = [max(max(c), w // max(c) * max(c)) for c, w in zip(dataset.data.chunks[:2], stored_chunks[:2], strict=True)]
    done = 0
    for y, x in itertools.product(*(range(0, n, size) for n, size in zip(dataset.scan_shape, sizes, strict=True))):
        part = (slice(y, y + sizes[0]), slice(x, x + sizes[1]))
        blocks = compute(*(source[part] for source in sources.values()))
        for array, block in zip(arrays.values(), blocks, strict=True):
            array[part] = block
        done += blocks[0].shape[0] * blocks[0].shape[1]
        if progress is not None:
            progress(done, dataset.n_patterns)
    if dataset.image is not None:
        image, dimensions = np.asarray(dataset.image), ["scan_y", "scan_x"]
        group.create_array("image", data=image, dimension_names=dimensions, attributes={"unit": "arbitrary"})
    masks = {"missing": ["scan_y", "scan_x"], "bad_pixels": ["k_y", "k_x"]}
    for name, axes in masks.items():
        if (mask := getattr(dataset, name)) is not None:
            group.create_array(name, data=np.asarray(mask, bool), dimension_names=axes)
    if dataset.atoms is not None:
        write_atoms(group, dataset.atoms)
    if (typical := dataset.typical_pattern) is not None:
        pattern_folder = group.create_group("typical_pattern")
        pattern_folder.create_array("image", data=np.asarray(typical.image, np.float64))
        pattern_folder.create_array("profile", data=np.asarray(typical.profile, np.float64))
        pattern_folder.attrs.update({name: _plain(getattr(typical, name)) for name in ("centre", "step", "aspect")})
    if dataset.truth is not None:
        write_truth(group, dataset.truth)
    # last, because these are what makes the folder a data set
    group.attrs.update(_attributes(dataset))


def _create(group: zarr.Group, name: str, source: da.Array) -> zarr.Array[Any]:
    dtype = source.dtype.newbyteorder("=")
    return group.create_array(
        name,
        shape=source.shape,
        dtype=dtype,
        chunks=pattern_chunks(source.shape, dtype),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle),
        dimension_names=["scan_y", "scan_x", "k_y", "k_x"],
        config={"write_empty_chunks": True},
        attributes={"unit": "counts" if dtype.kind in "ui" else "intensity"},
    )


def _attributes(dataset: Dataset4D) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": dataset.name,
        "calibration": dataset.calibration.to_dict(),
        "calibration_units": _UNITS,
        "axes": [
            {"name": name, "unit": unit}
            for name, unit in (("scan_y", "Å"), ("scan_x", "Å"), ("k_y", "mrad"), ("k_x", "mrad"))
        ],
        "electrons_per_pattern": _plain(dataset.electrons_per_pattern),
        "noiseless": bool(dataset.noiseless),
        "is_scan": bool(dataset.is_scan),
        "beam_shift": _plain(dataset.beam_shift),
        "reciprocal_pixel": _plain(dataset.reciprocal_pixel),
        "origins": _plain(dataset.origins),
        "preparation": None if dataset.preparation is None else _plain(dataset.preparation.to_dict()),
        "findings": [finding.to_dict() for finding in dataset.findings],
        "metadata": {str(key): _plain(value) for key, value in dataset.metadata.items()},
        "conventions": _CONVENTIONS,
    }


def _plain(value: Any) -> Any:
    """Numbers, words, lists and mappings that JSON can hold; anything else becomes its text."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

"""Gatan's .dm3 and .dm4: RosettaSciIO reads the tags, the frames are read here, so that nothing is mapped to memory.

The two classes that read the tags are private to RosettaSciIO. Its public reader gives the tags only together with the
data, which it maps to memory or reads whole, and what a damaged header makes of these has no bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.data.units import read_unit
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import OnDisk, require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold, refuse_frame_settings

__all__ = ["open_dm"]


def open_dm(request: Request) -> Dataset4D:
    """Open the one scan or stack of a .dm3 or .dm4, or the one that `request.dataset` names or numbers.

    Raises
    ------
    FileFormatError
        If the tags are damaged or the file is truncated.
    DataError
        If it holds no scan, several, a stack whose scan is unknown, or a spectrum image.
    """
    from rsciio.digitalmicrograph._api import DigitalMicrographReader, ImageObject

    path = request.path
    with path.open("rb") as stream:
        reader = DigitalMicrographReader(stream)
        reader.parse_file()
        images = [ImageObject(tags, stream) for tags in reader.get_image_dictionaries() or []]
    image = _only_scan(images, request)
    shape = tuple(int(n) for n in image.shape)
    dtype = np.dtype(image.dtype) if image.dtype != "not_implemented" else np.dtype(object)
    if dtype.names is None:
        require_real(dtype, str(path))
    else:
        raise DataError(f"{path}: holds colours; give the file of the 4D-STEM scan")
    offset = int(image.imdict.ImageData.Data.offset)
    if min(shape) < 1 or path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    dtype = dtype.newbyteorder("<" if reader.endian == "little" else ">")
    axes = _axes(image)
    recorded = (shape[0], shape[1]) if len(shape) == 4 else _scan_of_stack(image)
    return _open(request, shape, dtype, offset, axes, _beam(image), recorded, _frames_last(image, axes))


def _only_scan(images: list[Any], request: Request) -> Any:
    """The scan of a file, or the stack where it holds no scan; the one that is asked for where it holds several."""
    path = request.path
    large = [image for image in images if len(image.shape) in (3, 4)]
    if not large:
        shapes = ", ".join("x".join(map(str, image.shape)) for image in images[:8])
        trouble = f"holds no scan, but images of {shapes}" if images else "holds no image"
        raise DataError(f"{path}: {trouble}; give the file of the 4D-STEM scan")
    patterns = [image for image in large if not _is_spectrum_image(image)]
    if not patterns:
        raise DataError(
            f"{path}: holds a spectrum image, with an axis of energy, and no diffraction patterns; give the file of "
            "the 4D-STEM scan"
        )
    n_axes = max(len(image.shape) for image in patterns)
    scans = [image for image in patterns if len(image.shape) == n_axes]
    names = [str(image.imdict.get("Name") or "") for image in scans]
    chosen = [i for i, name in enumerate(names) if request.dataset in (None, str(i + 1), name)]
    if len(chosen) != 1:
        listed = ", ".join(
            f"{i + 1} ({name}{', ' * bool(name)}{'x'.join(map(str, image.shape))})"
            for i, (name, image) in enumerate(zip(names, scans, strict=True))
        )
        name = request.dataset
        trouble = f"holds {len(scans)} scans" if name is None else f"'{name}' is not one of its scans"
        raise DataError(f"{path}: {trouble}; give source.dataset, one of: {listed}")
    return scans[chosen[0]]


def _is_spectrum_image(image: Any) -> bool:
    units = [read_unit(axis["units"]) for axis in _axes(image)]
    words = str(image.imdict.get("ImageTags.Meta Data.Format") or "")
    return any(unit is not None and unit.quantity == "energy" for unit in units) or (
        len(image.shape) == 3 and words.lower().startswith("spectrum")
    )


def _axes(image: Any) -> list[dict[str, Any]]:
    return [{"scale": float(s), "units": str(u)} for s, u in zip(image.scales, image.units, strict=True)]


def _scan_of_stack(image: Any) -> tuple[int, int] | None:
    """The scan as cameras note it that are read out by other programs than DigitalMicrograph."""
    rows, columns = (image.imdict.get(f"ImageTags.4D STEM Tags.Scan shape {axis}") for axis in "YX")
    if not isinstance(rows, int | float) or not isinstance(columns, int | float) or min(rows, columns) < 1:
        return None
    return int(rows), int(columns)


def _open(
    request: Request,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    axes: list[dict[str, Any]],
    beam: dict[str, float],
    recorded: tuple[int, int] | None,
    frames_last: bool,
) -> Dataset4D:
    path = request.path
    refuse_frame_settings(request, shape)
    missing = None
    if frames_last:
        frame_bytes = math.prod(shape[-2:]) * dtype.itemsize
        part = Part(str(path.absolute()), offset, math.prod(shape[:-2]))
        frames = RawFrames((part,), frame_bytes, frame_bytes, (shape[-2], shape[-1]), dtype)
        data, missing = fold(frames, request, recorded)
        steps = axes if len(shape) == 4 else [{}, {}, *axes[1:]]
    else:
        # the detector's pixels lie outermost: a pattern is spread over the whole file, and only mapping can read it
        array = OnDisk(str(path.absolute()), "", "raw", shape, dtype, (2, 3, 0, 1), offset)
        data, steps = array.lazy(), [axes[i] for i in (2, 3, 0, 1)]
    return Dataset4D(data=data, name=path.stem, path=path, missing=missing).with_axes(steps, beam)


def _frames_last(image: Any, axes: list[dict[str, Any]]) -> bool:
    """Whether a pattern lies in one piece; DigitalMicrograph also keeps the scan innermost."""
    if len(axes) == 3:
        return True
    angular = ["1/" in axis["units"] or "rad" in axis["units"] or "^-1" in axis["units"] for axis in axes]
    if any(angular) and not all(angular):
        return any(angular[2:])
    swapped = image.imdict.get("ImageTags.Meta Data.Data Order Swapped")
    return swapped is None or bool(swapped)


def _beam(image: Any) -> dict[str, float]:
    voltage = image.imdict.get("ImageTags.Microscope Info.Voltage")
    angle = image.imdict.get("ImageTags.EELS.Experimental Conditions.Convergence semi-angle (mrad)")
    beam = {}
    if isinstance(voltage, int | float):
        beam["beam_energy"] = 1e-3 * voltage
    if isinstance(angle, int | float):
        beam["convergence_angle"] = float(angle)
    return beam

"""Gatan's .dm3 and .dm4: RosettaSciIO reads the tags, the frames are read here, so that nothing is mapped to memory.

The two classes that read the tags are private to RosettaSciIO. Its public reader gives the tags only together with the
data, which it maps to memory or reads whole, and what a damaged header makes of these has no bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import OnDisk, require_real
from stemvane.io.request import Request
from stemvane.io.stack import Part, RawFrames, fold, refuse_frame_settings

__all__ = ["open_dm"]


def open_dm(request: Request) -> Dataset4D:
    """Open the one scan or stack of a .dm3 or .dm4.

    Raises
    ------
    FileFormatError
        If the tags are damaged or the file is truncated.
    DataError
        If it holds no scan, or a stack whose scan is unknown.
    """
    from rsciio.digitalmicrograph._api import DigitalMicrographReader, ImageObject

    path = request.path
    with path.open("rb") as stream:
        reader = DigitalMicrographReader(stream)
        reader.parse_file()
        images = [ImageObject(tags, stream) for tags in reader.get_image_dictionaries() or []]
    images = [image for image in images if len(image.shape) in (3, 4)] or images[:1]
    if not images:
        raise DataError(f"{path}: holds no image; save the scan from DigitalMicrograph again")
    image = max(images, key=lambda candidate: len(candidate.shape))
    shape = tuple(int(n) for n in image.shape)
    if len(shape) not in (3, 4):
        raise DataError(f"{path}: holds an image of {len(shape)} axes {shape}; give the file of the 4D-STEM scan")
    dtype = np.dtype(image.dtype) if image.dtype != "not_implemented" else np.dtype(object)
    if dtype.names is None:
        require_real(dtype, str(path))
    else:
        raise DataError(f"{path}: holds colours; give the file of the 4D-STEM scan")
    offset = int(image.imdict.ImageData.Data.offset)
    if min(shape) < 1 or path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"{path}: is truncated, or its header is wrong; copy it again")
    dtype = dtype.newbyteorder("<" if reader.endian == "little" else ">")
    axes = [{"scale": float(s), "units": str(u)} for s, u in zip(image.scales, image.units, strict=True)]
    return _open(request, shape, dtype, offset, axes, _beam(image), _frames_last(image, axes))


def _open(
    request: Request,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    axes: list[dict[str, Any]],
    beam: dict[str, float],
    frames_last: bool,
) -> Dataset4D:
    path = request.path
    refuse_frame_settings(request, shape)
    missing = None
    if frames_last:
        frame_bytes = math.prod(shape[-2:]) * dtype.itemsize
        part = Part(str(path.absolute()), offset, math.prod(shape[:-2]))
        frames = RawFrames((part,), frame_bytes, frame_bytes, (shape[-2], shape[-1]), dtype)
        recorded = (shape[0], shape[1]) if len(shape) == 4 else None
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

"""Single images: dark patterns, masks, the probe in vacuum and simultaneously recorded maps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError, FileFormatError
from stemvane.extras import require_package
from stemvane.io.hdf5_guard import probe
from stemvane.io.on_disk import file_errors
from stemvane.io.readers.tiff import NEEDED, TIFF_MARKS

__all__ = ["read_image"]

_NPY = b"\x93NUMPY"
_DM = (b"\0\0\0\3", b"\0\0\0\4")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM")


def read_image(path: str | Path) -> NDArray[Any]:
    """Read one image of two axes; the format is recognised by the content.

    Parameters
    ----------
    path : str or Path
        ``.npy``, TIFF, PNG, BMP, JPEG, ``.dm3``, ``.dm4``, ``.mrc`` or ``.hspy``.

    Returns
    -------
    ndarray, shape (y, x)
        Colours are averaged.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or of no format that is read.
    DataError
        If it does not hold one real image.
    """
    source = Path(path)
    with file_errors(source), source.open("rb") as stream:
        start = stream.read(212)
        stream.seek(0)
        if start.startswith(_NPY):
            image: Any = np.load(stream, allow_pickle=False)
        elif start.startswith(_PICTURES):
            image = _picture(source)
        else:
            image = _through_rosettasciio(source, start)
    if image.dtype.names is not None:
        image = np.mean([image[name] for name in image.dtype.names[:3]], axis=0)
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = image[..., :3].mean(axis=2)
    if image.ndim != 2 or image.dtype.kind not in "uifb":
        raise DataError(f"{source}: holds {image.dtype} of shape {image.shape}; give one real image of two axes")
    return np.asarray(image)


def _picture(path: Path) -> Any:
    # RosettaSciIO needs imageio for these; matplotlib brings Pillow
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB") if picture.mode in ("P", "CMYK") else picture)


def _through_rosettasciio(path: Path, start: bytes) -> Any:
    if start.startswith(_DM):
        from rsciio.digitalmicrograph import file_reader as read
    elif start.startswith(TIFF_MARKS):
        with require_package("reading a TIFF image", NEEDED):
            from rsciio.tiff import file_reader as read
    elif start.startswith(_HDF5):
        probe(path)
        from rsciio.hspy import file_reader as read
    elif start[208:211] == b"MAP" or path.suffix.lower() == ".mrc":
        from rsciio.mrc import file_reader as read
    else:
        raise FileFormatError(f"{path}: not an image that stemvane reads; save it as .npy or .tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = read(str(path))
    if len(signals) != 1:
        raise DataError(f"{path}: holds {len(signals)} images; save the one you want to a file of its own")
    return np.squeeze(np.asarray(signals[0]["data"]))

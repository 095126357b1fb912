"""Single images: dark patterns, masks and simultaneously recorded maps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError, FileFormatError
from stemvane.sources.on_disk import told

__all__ = ["read_image"]

_READERS = {
    ".tif": "tiff", ".tiff": "tiff", ".png": "image", ".bmp": "image", ".jpg": "image",
    ".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".mrc": "mrc", ".hspy": "hspy",
}  # fmt: skip


def read_image(path: str | Path) -> NDArray[Any]:
    """Read one image of two axes.

    Parameters
    ----------
    path : str or Path
        ``.npy``, or ``.tif``, ``.png``, ``.bmp``, ``.jpg``, ``.dm3``, ``.dm4``, ``.mrc`` or ``.hspy`` through
        RosettaSciIO.

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
    with told(source):
        if source.suffix == ".npy":
            image: Any = np.load(source, allow_pickle=False)
        elif source.suffix.lower() in _READERS:
            image = _through_rosettasciio(source)
        else:
            raise FileFormatError(f"{source}: not an image that stemvane reads; give .npy, {', '.join(_READERS)}")
    if image.dtype.names is not None:
        image = np.mean([image[name] for name in image.dtype.names[:3]], axis=0)
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = image[..., :3].mean(axis=2)
    if image.ndim != 2 or image.dtype.kind not in "uifb":
        raise DataError(f"{source}: holds {image.dtype} of shape {image.shape}; give one real image of two axes")
    return np.asarray(image)


def _through_rosettasciio(path: Path) -> Any:
    from importlib import import_module

    reader = import_module(f"rsciio.{_READERS[path.suffix.lower()]}").file_reader
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = reader(str(path))
    if len(signals) != 1:
        raise DataError(f"{path}: holds {len(signals)} images; save the one you want to a file of its own")
    return np.asarray(signals[0]["data"])

"""What was changed in the viewer, axis, disc and what is left out, as settings of another run."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError
from stemvane.io.images import read_image
from stemvane.runs.rerun import changed_settings
from stemvane.viewer.scene import Scene
from stemvane.viewer.selections import select_positions

__all__ = ["Rerun", "rerun_with"]

_MOST_PIXELS = 100_000
# places on the detector and in the scan are those of the file only where none of these is set
_GEOMETRY = ("transpose", "flip_y", "flip_x", "scan_region", "scan_binning", "detector_binning")


class Rerun(NamedTuple):
    """How to analyse a scan again.

    Attributes
    ----------
    path, output : str
        File of the scan, and folder for the run.
    settings : str
        Settings as TOML.
    name : str
        Name of a file for them.
    masks : dict of str to bytes
        Images of what is left out, as NumPy files, by the names that the settings give them.
    """

    path: str
    output: str
    settings: str
    name: str
    masks: dict[str, bytes]


def rerun_with(scene: Scene, changes: Mapping[str, Any]) -> Rerun:
    """Turn changes of a viewer into settings and masks.

    Parameters
    ----------
    scene : Scene
        A run of a file, or a file.
    changes : mapping
        ``axis`` ``[y, x]`` and ``radius`` in pixels; ``pixels``, a list of bad ``[y, x]``; ``positions``, a list of
        selections to leave out, as `select_positions` takes them. What is missing stays as it was.

    Returns
    -------
    Rerun

    Raises
    ------
    DataError
        If the scan does not come from a file, was flipped, cropped or binned, or a change is none of these.
    """
    config = changed_settings(scene.run, {}, {})
    path = config.source.path or (
        "" if scene.dataset is None or scene.dataset.path is None else str(scene.dataset.path)
    )
    if not path:
        raise DataError(f"{scene.name}: it was not read from a file, so it cannot be run again")
    # the files are saved elsewhere, where a path relative to this folder would lead nowhere
    if Path(path).exists():
        path = str(Path(path).absolute())
    preparation = config.preparation
    usual = type(preparation)()
    if any(getattr(preparation, name) != getattr(usual, name) for name in _GEOMETRY):
        raise DataError(f"{scene.name}: it was flipped, cropped or binned; mark axis and masks on the file itself")
    source: dict[str, Any] = {"path": path}
    masks, files = {}, {}
    axis, radius = changes.get("axis"), changes.get("radius")
    if axis is not None:
        source["optical_axis"] = tuple(_places([axis])[0].tolist())
    if radius is not None:
        if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius < 1e5:
            raise DataError(f"the radius is {radius!r}; give a number of pixels")
        source["disc_radius"] = float(radius)
    bad = _given(preparation.bad_pixels, scene.detector_shape)
    places = np.rint(_places(changes.get("pixels") or [])).astype(int)
    within = ((places >= 0) & (places < scene.detector_shape)).all(axis=1)
    bad[tuple(places[within].T)] = True
    missing = _given(preparation.missing, scene.scan_shape)
    for selection in changes.get("positions") or []:
        if not isinstance(selection, Mapping):
            raise DataError("positions to leave out are no selections; select them again")
        missing |= select_positions(scene, selection)
    for name, mask in (("bad_pixels", bad), ("missing", missing)):
        if mask.any():
            file = f"{scene.file_name}_{name}.npy"
            content = BytesIO()
            np.lib.format.write_array(content, mask, allow_pickle=False)
            masks[name], files[file] = file, content.getvalue()
    changed = changed_settings(scene.run, source, masks)
    name = f"{scene.file_name}_again.toml"
    return Rerun(path, f"{scene.file_name}_again", changed.to_toml(), name, files)


def _given(path: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask that the settings name already, as what is painted is added to it."""
    mask = np.asarray(read_image(path)) != 0 if path else np.zeros(shape, bool)
    if mask.shape != shape:
        raise DataError(f"{path}: has the shape {mask.shape}, not {shape}; give another mask")
    return mask


def _places(points: Any) -> NDArray[np.float64]:
    try:
        places = np.asarray(points, float).reshape(-1, 2)
    except (TypeError, ValueError):
        places = np.full((1, 2), np.nan)
    if len(places) > _MOST_PIXELS or not (np.abs(places) < 1e6).all():
        raise DataError(f"places are no list of at most {_MOST_PIXELS} pairs (y, x); mark them again")
    return places

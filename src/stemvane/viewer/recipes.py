"""What is on the screen as Python: a script, or a notebook, that makes the same arrays again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemvane.errors import DataError
from stemvane.viewer.detector_shapes import DetectorShape
from stemvane.viewer.scene import Scene

__all__ = ["notebook_of", "python_of"]

_MAPS_OF_EMBEDDING = {
    "angle": "embedding.angle",
    "angle_std": "embedding.angle_std",
    "deflection_angle": "embedding.deflection_angle",
    "log_evidence": "embedding.log_evidence",
}


def python_of(scene: Scene, state: Mapping[str, Any]) -> str:
    """Write a script that makes the map, pattern, virtual detector and selection on the screen.

    Parameters
    ----------
    scene : Scene
        A run, or a scan that was opened from a file.
    state : mapping
        ``map``, ``cursor`` ``[y, x]``, and where there are any ``detector`` and ``selection``.

    Returns
    -------
    str
        Python. Its names ``shown_map``, ``pattern``, ``detector_map``, ``selected`` and ``mean_pattern`` hold what the
        viewer shows.

    Raises
    ------
    DataError
        If the scan was opened neither from a run nor from a file.
    """
    return "\n\n".join(code for _, code in _cells(scene, state)) + "\n"


def notebook_of(scene: Scene, state: Mapping[str, Any]) -> str:
    """Write the same as a Jupyter notebook, with a sentence above each cell.

    Parameters
    ----------
    scene : Scene
        A run, or a scan that was opened from a file.
    state : mapping
        As for `python_of`.

    Returns
    -------
    str
        The content of an ``.ipynb`` file, version 4.5.
    """
    cells: list[dict[str, Any]] = []
    for words, code in _cells(scene, state):
        for kind, text in (("markdown", words), ("code", code)):
            cell = {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": text}
            cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps(
        {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1
    )


def _cells(scene: Scene, state: Mapping[str, Any]) -> list[tuple[str, str]]:
    cells = [("Open the scan.", _opening(scene))]
    name = state.get("map")
    if isinstance(name, str) and (code := _map_code(scene, name)):
        cells.append(("The map.", f"shown_map = {code}"))
    cursor = state.get("cursor")
    if scene.pattern_source and isinstance(cursor, list) and len(cursor) == 2:
        cells.append(("The pattern under the cursor.", _pattern_code(scene, int(cursor[0]), int(cursor[1]))))
    if scene.pattern_source and isinstance(state.get("detector"), Mapping):
        cells.append(("The virtual detector.", _detector_code(scene, DetectorShape.from_dict(state["detector"]))))
    if isinstance(state.get("selection"), Mapping):
        cells.append(("The selection, and its mean pattern.", _selection_code(scene, state["selection"])))
    return cells


def _opening(scene: Scene) -> str:
    lines = ["import numpy as np", "", "import stemvane as sv", "from stemvane.viewer.scene import Scene", ""]
    if scene.run is not None:
        lines += [
            f"run = sv.Run.open({str(scene.run.path)!r})",
            "measured, embedding = run.measurements, run.embedding",
            "scene = Scene.of_run(run)",
        ]
    elif scene.dataset is not None and scene.dataset.path is not None:
        given = {
            "scan_shape": scene.scan_shape,
            **{n: v for n, v in vars(scene.calibration).items() if scene.dataset.origins.get(n) == "given"},
        }
        words = "".join(f", {name}={value!r}" for name, value in given.items() if name != "ellipse")
        lines += [
            f"scan = sv.open_dataset({str(Path(scene.dataset.path))!r}{words})",
            "scene = Scene.of_dataset(scan)",
        ]
    else:
        raise DataError(f"{scene.name}: it was opened neither from a run nor from a file, so no script can open it")
    return "\n".join(lines)


def _map_code(scene: Scene, name: str) -> str:
    """The expression that makes a map; empty where no one line does."""
    measurements = scene.measurements
    if measurements is not None and name in measurements.maps:
        return f"measured.maps[{name!r}]"
    if scene.embedding is not None:
        if name in _MAPS_OF_EMBEDDING:
            return _MAPS_OF_EMBEDDING[name]
        for stem, attribute in (("latent_std_", "latent_std"), ("latent_", "latents")):
            if name.startswith(stem) and name.removeprefix(stem).isdecimal():
                return f"embedding.{attribute}[..., {int(name.removeprefix(stem)) - 1}]"
    if measurements is not None and name in ("com", "com_angle"):
        return "measured.com_angle"
    if measurements is not None and name == "com_magnitude":
        return "measured.com_magnitude"
    if scene.run is not None and name in scene.maps:
        return f"scene.maps[{name!r}].values"
    moments = {
        "total": "np.asarray(scan.data.sum(axis=(2, 3), dtype=np.float64))",
    }
    return moments.get(name, "")


def _pattern_code(scene: Scene, y: int, x: int) -> str:
    if scene.dataset is None:
        return f"pattern = measured.grid.to_cartesian(measured.polar[{y}, {x}], measured.detector_shape)"
    return f"pattern = scene.pattern({y}, {x})"


def _detector_code(scene: Scene, shape: DetectorShape) -> str:
    size, aspect = scene.detector_shape, scene.calibration.pixel_aspect
    centre = (shape.y, shape.x)
    if shape.shape in ("disc", "annulus"):
        inner = 0.0 if shape.shape == "disc" else shape.inner
        weights = (
            f"sv.VirtualDetector.annulus('dragged', {size}, {centre}, {inner!r}, {shape.outer!r}, {aspect!r}).weights"
        )
        head: list[str] = []
    else:
        head = ["from stemvane.viewer.detector_shapes import DetectorShape", ""]
        weights = f"DetectorShape(**{shape.to_dict()!r}).weights({size}, {aspect!r})"
    lines = [*head, f"weights = {weights}"]
    if scene.bad_pixels is not None and scene.bad_pixels.any():
        lines.append("weights = np.where(scene.bad_pixels, 0.0, weights)  # bad pixels count nothing")
    if scene.dataset is None:
        lines += [
            "# the run holds polar samples: each counts with the part of its area that lies in the detector",
            "overlaps = measured.grid.weights(measured.detector_shape)",
            "pixel, area = overlaps.pixel, overlaps.overlap",
            "by_sample = np.bincount(overlaps.sample, area * weights.ravel()[pixel], overlaps.area.size)",
            "patterns = np.asarray(measured.polar[:]).reshape(*measured.scan_shape, -1)",
            "detector_map = patterns @ by_sample",
        ]
        moments = "patterns @ np.bincount(overlaps.sample, area * (weights * arm).ravel()[pixel], overlaps.area.size)"
    else:
        lines += [
            "patterns = scene.dataset.data.astype(float)",
            "detector_map = np.asarray((patterns * weights).sum(axis=(2, 3)))",
        ]
        moments = "np.asarray((patterns * (weights * arm)).sum(axis=(2, 3)))"
    if shape.signal == "com":
        pixel = scene.calibration.pixel_size or (1.0, 1.0)
        lines += [
            f"rows, columns = np.indices({size}, dtype=float)",
            f"arms = (rows - {shape.y!r}, columns - {shape.x!r})",
            f"com = np.stack([{moments} for arm in arms], axis=-1) / detector_map[..., None] * {pixel!r}",
            "com -= np.nanmean(com, axis=(0, 1))",
            "# its direction; its length is np.linalg.norm(com, axis=-1)",
            "detector_map = np.arctan2(-com[..., 0], com[..., 1])",
        ]
    return "\n".join(lines)


def _selection_code(scene: Scene, selection: Mapping[str, Any]) -> str:
    lines = [
        "from stemvane.viewer.selections import mean_patterns, select_positions",
        "",
        f"selected = select_positions(scene, {_literal(selection)})",
    ]
    if scene.pattern_source:
        lines += ["*_, mean = mean_patterns(scene, selected)", "mean_pattern, rotated_mean = mean.plain, mean.rotated"]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    """Plain values as Python writes them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{str(k)!r}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    if value is None or isinstance(value, str | bool | int):
        return repr(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(round(value, 6))
    raise DataError(f"{value!r} has no place in a script; draw the selection again")

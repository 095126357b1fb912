"""What `stemvane symmetry` leaves in a run: sites, defects and their summary as files."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stemvane.defects.analysis import DefectAnalysis
from stemvane.defects.lattice import Lattice
from stemvane.errors import RunError
from stemvane.io import atomic
from stemvane.io.places import Place, has_kind, new_mark
from stemvane.runs.run import Run

__all__ = ["place_for_symmetry", "read_symmetry", "summary_of", "write_symmetry"]

_KIND = "symmetry"
_MAPS = (
    ("anomaly", "Departure from the lattice", "scalar"),
    ("lattices", "Lattices", "class"),
    ("groups", "Groups", "class"),
)


def write_symmetry(run: Run, analysis: DefectAnalysis, folder: Path | None = None) -> Path:
    """Write ``sites.csv``, ``defects.csv``, ``symmetry.json`` and ``symmetry.zarr``; the last two without a lattice.

    Parameters
    ----------
    run : Run
        A finished run.
    analysis : DefectAnalysis
        Defect search of the run's measurements and embedding.
    folder : Path, optional
        Where to; ``symmetry`` in the run where left out. Files of an earlier search are replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    RunError
        If it cannot be written, or holds something else.
    """
    place_for_symmetry(run, folder)
    folder = run.path / "symmetry" if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / "manifest.json", new_mark(_KIND) | {"run": str(run.path)})
        for name, columns in (("sites.csv", _sites), ("defects.csv", _defects)):
            # without a lattice those of an earlier search would pass for this one's
            if analysis.sites is None:
                atomic.remove(folder / name)
            else:
                atomic.write_table(folder / name, columns(analysis))
        # in a folder of ours everything of this name is
        arrays = Place(folder / "symmetry.zarr", "defect search", lambda _: True, RunError, overwrite=True)
        with arrays.written_whole() as hidden:
            _write_arrays(zarr.open_group(hidden, mode="w", zarr_format=3), run, analysis)
        atomic.write_json(folder / "symmetry.json", atomic.plain(summary_of(analysis)))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}); give another folder") from None
    return folder


def read_symmetry(run: Run) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str, str, NDArray[Any]]]]:
    """Read the defects and maps that `write_symmetry` has left in a run.

    Parameters
    ----------
    run : Run
        A finished run.

    Returns
    -------
    defects : list of dict
        Rows of ``defects.csv``: numbers, None for empty cells, and the words of ``name``; none without a search.
    maps : dict of str to tuple
        Title, kind, unit and values (scan_y, scan_x) of the anomaly, and of the groups where there is no lattice.

    Raises
    ------
    RunError
        If the files are damaged.
    """
    folder = run.path / "symmetry"
    defects: list[dict[str, Any]] = []
    maps: dict[str, tuple[str, str, str, NDArray[Any]]] = {}
    if not (folder / "symmetry.zarr").is_dir():
        return defects, maps
    try:
        if (folder / "defects.csv").is_file():
            with (folder / "defects.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    defects.append({k: v if k == "name" else float(v) if v else None for k, v in row.items()})
        group = zarr.open_group(folder / "symmetry.zarr", mode="r")
        for name, title, kind in _MAPS:
            if name in group:
                array: Any = group[name]
                maps[name] = (title, kind, str(array.attrs.get("unit", "")), np.asarray(array[...]))
    except Exception as error:  # a damaged store raises whatever zarr, its codecs or the file system please
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"{folder}: damaged ({reason}); search the run for defects again") from None
    return defects, maps


def place_for_symmetry(run: Run, folder: Path | None = None) -> Place:
    """Refuse a folder for the results of a search that holds anything else, or that cannot be written.

    Parameters
    ----------
    run : Run
        A finished run.
    folder : Path, optional
        The folder; ``symmetry`` in the run, which is always ours, where left out.

    Returns
    -------
    Place

    Raises
    ------
    RunError
        If it is refused.
    """

    def is_ours(path: Path) -> bool:
        return folder is None or has_kind(path, (_KIND,)) or not any(path.iterdir())

    place = run.path / "symmetry" if folder is None else folder
    inputs = [] if folder is None else run.config.files()
    return Place.checked(place, "defect search", is_ours, RunError, overwrite=True, inputs=inputs)


def summary_of(analysis: DefectAnalysis) -> dict[str, Any]:
    """Lattice, numbers of sites and defects, kinds and winding numbers, as plain values; lengths in Å."""
    lattice, sites, defects = analysis.lattice, analysis.sites, analysis.defects
    if lattice is None or sites is None or defects is None:
        findings = [finding.to_dict() for finding in analysis.findings]
        largest = float(np.nanmax(analysis.anomaly))
        return {"lattice": False, "largest_anomaly": largest, "findings": findings, **_of_regions(analysis)}
    a, b = lattice.vectors
    lattice_map = analysis.lattice_map
    assert lattice_map is not None
    lengths = [float(np.linalg.norm(v)) for v in (a, b)]
    kinds, naming = defects.kinds, defects.naming
    members = [kinds.kind == number for number in range(kinds.n_kinds)]
    rotations = [np.degrees(kinds.rotation[member]).round().astype(int) for member in members]
    return {
        "lattice": True,
        "lattice_constants": lengths,
        "lattice_angle_deg": math.degrees(math.acos(float(a @ b) / (lengths[0] * lengths[1]))),
        "n_lattices": len(analysis.lattices),
        "lattice_shares": [float((lattice_map == number).mean()) for number in range(len(analysis.lattices))],
        "lattice_directions_deg": [_direction(other) for other in analysis.lattices],
        "share_searched": analysis.share_searched,
        "findings": [finding.to_dict() for finding in analysis.findings],
        "lattice_direction_deg": _direction(lattice),
        "distortion_max": float(np.abs(lattice.distortion.at(sites.positions)).max(initial=0.0)),
        "n_atoms": int(sites.is_atom.sum()),
        "n_hollows": int((~sites.is_atom).sum()),
        "winding_atoms": float(np.nanmean(analysis.winding[sites.is_atom])),
        "winding_hollows": float(np.nanmean(analysis.winding[~sites.is_atom])) if not sites.is_atom.all() else None,
        "winding_bonds": analysis.bond_winding,
        "n_defects": len(defects.p),
        "n_kinds": kinds.n_kinds,
        "kind_counts": [int(member.sum()) for member in members],
        "kind_names": None if naming is None else list(naming.kind_names),
        "kind_probabilities": None if naming is None else naming.kind_probabilities.max(axis=1).tolist(),
        "kind_excess_order_0": [float(defects.excess[member, 0].mean()) for member in members],
        "kind_excess_order_1": [float(defects.excess[member, 1].mean()) for member in members],
        "kind_fold": kinds.fold.tolist(),
        "kind_turns_deg": [_histogram(member) for member in rotations],
        "kind_sublattices": [_histogram(defects.sublattice[member]) for member in members],
        "kind_spread": list(kinds.spread),
        "kind_certainty": list(kinds.certainty),
    }


def _direction(lattice: Lattice) -> float:
    """Direction of the first lattice vector in degrees, counter-clockwise on the screen."""
    down, right = lattice.vectors[0]
    return math.degrees(math.atan2(-down, right))


def _histogram(values: NDArray[np.int64]) -> dict[str, int]:
    return {str(value): int(number) for value, number in zip(*np.unique(values, return_counts=True), strict=True)}


def _of_regions(analysis: DefectAnalysis) -> dict[str, Any]:
    """Number of groups, and what each is like."""
    regions = analysis.regions
    if regions is None:
        return {"n_groups": 0, "groups": []}
    latents = sum(name.startswith("latent_") for name in regions.values)
    groups = [
        {
            "share": float(regions.share[i]),
            "dark_field_over_median": float(regions.values["dark_field"][i]),
            "bright_field_over_median": float(regions.values["bright_field"][i]),
            "total_over_median": float(regions.values["total"][i]),
            f"deflection_{regions.com_unit}": float(regions.values["deflection"][i]),
            "latents": [float(regions.values[f"latent_{j + 1}"][i]) for j in range(latents)],
            "certainty": float(regions.certainty[i]),
        }
        for i in range(regions.n_groups)
    ]
    return {"n_groups": regions.n_groups, "stability": regions.stability, "groups": groups}


def _write_arrays(group: zarr.Group, run: Run, analysis: DefectAnalysis) -> None:
    """The anomaly map, and patterns of kinds or groups on the detector's pixels."""
    measurements = run.measurements
    group.create_array("anomaly", data=analysis.anomaly.astype(np.float32), attributes={"unit": "s.d."})
    if analysis.lattice_map is not None and analysis.is_searched is not None:
        # as the figure numbers them, 0 where there is none
        group.create_array("lattices", data=(analysis.lattice_map + 1).astype(np.int32), attributes={"unit": ""})
        group.create_array("searched", data=analysis.is_searched, attributes={"unit": ""})
    if analysis.regions is not None:
        numbers = (analysis.regions.label + 1).astype(np.int32)
        group.create_array("groups", data=numbers, attributes={"unit": ""})
    for name, part in (("patterns", analysis.defects), ("group_patterns", analysis.regions)):
        if part is not None:
            patterns = measurements.grid.to_cartesian(part.patterns, measurements.detector_shape)
            patterns = patterns.astype(np.float32)
            group.create_array(name, data=patterns, attributes={"unit": "intensity per pixel"})


def _sites(analysis: DefectAnalysis) -> dict[str, Any]:
    sites, content = analysis.sites, analysis.content
    assert sites is not None
    assert content is not None
    columns: dict[str, Any] = {
        "y": sites.positions[:, 0],
        "x": sites.positions[:, 1],
        "atom": sites.is_atom.astype(float),
        "sublattice": sites.sublattices.astype(float),
        "lattice": analysis.site_lattice + 1.0,
        "p": analysis.p,
        "q": analysis.q,
        **{f"p_{name}": values for name, values in analysis.channels.items()},
    }
    for column, order in enumerate(content.orders[:2]):
        for name, values in (("excess", content.excess), ("excess_std", content.std)):
            columns[f"{name}_order_{order}"] = np.full(len(sites), np.nan)
            columns[f"{name}_order_{order}"][sites.is_atom] = values[:, column]
    columns["winding"] = analysis.winding
    columns |= {f"symmetry_{fold}fold": values for fold, values in analysis.fold_symmetry.items()}
    columns["defect"] = np.where(analysis.owner >= 0, analysis.owner, np.nan)
    return columns


def _defects(analysis: DefectAnalysis) -> dict[str, Any]:
    defects = analysis.defects
    assert defects is not None
    columns: dict[str, Any] = {
        "defect": np.arange(len(defects.p), dtype=float),
        "y": defects.positions[:, 0],
        "x": defects.positions[:, 1],
        "p": defects.p,
        # as the figure numbers them
        "kind": defects.kinds.kind + 1.0,
        "turn_deg": np.degrees(defects.kinds.rotation),
        "sublattice": defects.sublattice.astype(float),
        "lattice": defects.lattice + 1.0,
        "excess_order_0": defects.excess[:, 0],
        "excess_order_1": defects.excess[:, 1],
    }
    if defects.naming is not None:
        naming, numbers = defects.naming, range(len(defects.p))
        first, second = ([naming.ranked(number, place) for number in numbers] for place in (0, 1))
        columns |= {
            "name": naming.names,
            "probability": np.array([probability for _, probability in first]),
            "next_name": tuple(name for name, _ in second),
            "next_probability": np.array([probability for _, probability in second]),
            "left": naming.unexplained,
        }
    return columns

"""Export: the maps and patterns of a run as files for HyperSpy, py4DSTEM, xarray, ImageJ and tables."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from stemvane.data.arguments import require
from stemvane.data.signals import Signal, maps_of, origin_of, patterns_of, stacks_of
from stemvane.errors import ConfigError, FileFormatError, RunError
from stemvane.export.hdf5_writer import MARK, emd_bytes, hspy_bytes, is_marked
from stemvane.extras import require_package
from stemvane.io import atomic
from stemvane.io.on_disk import file_errors
from stemvane.io.places import Place
from stemvane.runs.run import Run

__all__ = ["export_run"]

_CSV_HEAD = b"row,column,y_"
_CURE = "check permissions and free space, or give another output"
_LETTERS = str.maketrans({"Å": "angstrom", "·": " ", "°": "deg", "µ": "u", "μ": "u"})
_TIFF_UNITS = {"Å": "angstrom", "px": "pixel"}  # ImageJ's words; the tag holds ASCII only


def export_run(run: Run, to: str, output: str | os.PathLike[str] | None = None, overwrite: bool = False) -> Path:
    """Write the maps and patterns of a run for other programs, with units on every axis.

    The file or folder is prepared beside its place under a hidden name and renamed last: what has its final name is
    whole.

    Parameters
    ----------
    run : Run
        A finished run; it is not changed.
    to : str
        ``hspy``: one file of several signals, for HyperSpy. ``emd``: EMD 1.0, for py4DSTEM and emdfile. ``zarr``: a
        Zarr 3 group for xarray, the polar patterns and angle posteriors included. ``tiff``: a folder of 32-bit images
        for ImageJ. ``csv``: one row per probe position, angles in degrees.
    output : str or path, optional
        The file or folder to write; the run's name with the ending of the format, beside the run, where left out.
    overwrite : bool
        Replace what an earlier export wrote under that name; anything else is left alone, such as the scan itself.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ConfigError
        If the format is not known.
    FileFormatError
        If the target exists already, has the wrong ending or cannot be written; nothing is left behind then.
    RunError
        If a part of the run is missing or damaged.
    MissingPackageError
        If ``tiff`` is asked for without tifffile.
    """
    require(run, Run, "export_run")
    if to not in _FORMATS:
        raise ConfigError(f"'{to}' is not a format of export; choose one of {', '.join(_FORMATS)}")
    form = _FORMATS[to]
    beside = run.path.with_name(f"{run.path.name}{form.default_ending}")
    target = beside if output is None else Path(output)
    if form.endings and target.suffix not in form.endings:
        raise FileFormatError(
            f"{target}: {to} needs a name that ends in {' or '.join(form.endings)}; give one as output"
        )
    place = Place.checked(
        target,
        "export",
        _is_export,
        FileFormatError,
        overwrite=overwrite,
        is_folder=form.is_folder,
        inputs=[run.path, *run.config.files()],
    )
    signals, origin = form.content(run), origin_of(run)
    with file_errors(place.path, "written", _CURE), place.written_whole() as hidden:
        form.write(hidden, signals, origin, run)
    return place.path


def _is_export(target: Path) -> bool:
    """Whether a file or folder was written by `export_run`."""
    if target.is_dir():
        return MARK in _head(target / "export.json") or MARK in _head(target / "zarr.json").get("attributes", {})
    try:
        if target.suffix == ".csv":
            with target.open("rb") as file:
                return file.read(len(_CSV_HEAD)) == _CSV_HEAD
        return is_marked(target)
    except OSError:
        return False


def _head(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty where it is missing or damaged."""
    try:
        return atomic.read_json(path)
    except (OSError, ValueError, TypeError):
        return {}


def _write_hspy(path: Path, signals: list[Signal], origin: dict[str, Any], run: Run) -> None:
    path.write_bytes(hspy_bytes(signals, origin, run.measurements.calibration))


def _write_emd(path: Path, signals: list[Signal], origin: dict[str, Any], run: Run) -> None:
    path.write_bytes(emd_bytes(signals, origin))


def _write_zarr(path: Path, signals: list[Signal], origin: dict[str, Any], run: Run) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update({MARK: 1, **atomic.plain(origin)})
    for axis in {axis.name: axis for signal in signals for axis in signal.axes}.values():
        group.create_array(axis.name, data=axis.positions, dimension_names=[axis.name], attributes={"units": axis.unit})
    for signal in signals:
        array = group.create_array(
            signal.name,
            shape=signal.values.shape,
            dtype="float32",
            chunks=getattr(signal.values, "chunks", None) or "auto",
            fill_value=math.nan,
            dimension_names=[axis.name for axis in signal.axes],
            attributes={"units": signal.unit, "long_name": signal.name.replace("_", " ")},
        )
        rows = array.chunks[0]
        for start in range(0, array.shape[0], rows):
            array[start : start + rows] = _read(signal, slice(start, start + rows), run)


def _read(signal: Signal, rows: slice, run: Run) -> Any:
    """Some rows of a signal that may lie in the run folder, which is not the place that is written to."""
    try:
        return signal.values[rows]
    except Exception as error:  # a damaged store raises whatever zarr, its codecs or the file system please
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"{run.path}: {signal.name} is damaged ({reason}); run it again") from None


def _write_tiff(path: Path, signals: list[Signal], origin: dict[str, Any], run: Run) -> None:
    with require_package("export to tiff", "stemvane[export]"):
        from tifffile import imwrite

    path.mkdir()
    for signal in signals:
        y, x = signal.axes[-2:]
        stack = "TZ"[2 - signal.n_navigation :]
        content = BytesIO()  # NumPy tells of a full disk without saying so
        imwrite(
            content,
            np.ascontiguousarray(signal.values),
            imagej=True,
            resolution=(1 / abs(x.scale), 1 / abs(y.scale)),
            metadata={
                "axes": f"{stack}YX",
                "unit": _TIFF_UNITS.get(x.unit, x.unit),
                "xorigin": -x.offset / x.scale,
                "yorigin": -y.offset / y.scale,
                "stemvane_name": signal.name,
                "stemvane_values": _ascii(signal.unit) or "1",
            },
        )
        (path / f"{signal.name}.tif").write_bytes(content.getbuffer())
    axes = {signal.name: [[a.name, a.unit, a.offset, a.scale] for a in signal.axes] for signal in signals}
    units = {signal.name: signal.unit for signal in signals}
    atomic.write_json(path / "export.json", {MARK: 1, **atomic.plain(origin), "units": units, "axes": axes})


def _write_csv(path: Path, signals: list[Signal], origin: dict[str, Any], run: Run) -> None:
    y, x = signals[0].axes
    row, column = np.indices((y.size, x.size))
    columns: dict[str, Any] = {"row": row.ravel(), "column": column.ravel()}
    for name, axis, index in (("y", y, row), ("x", x, column)):
        columns[_column(name, axis.unit)] = axis.positions[index].ravel()
    for signal in signals:
        values = np.degrees(signal.values) if signal.unit == "rad" else signal.values
        # float32 0.1 is written as 0.1, not as 0.10000000149011612
        columns[_column(signal.name, signal.unit)] = values.ravel().astype("U32").astype(np.float64)
    atomic.write_table(path, columns)


def _column(name: str, unit: str) -> str:
    words = "deg" if unit == "rad" else _ascii(unit).replace("/", "_per_").replace(" ", "_")
    return f"{name}_{words}" if unit else name


def _ascii(unit: str) -> str:
    return unicodedata.normalize("NFKD", unit.translate(_LETTERS)).encode("ascii", "replace").decode()


@dataclass(frozen=True)
class _Format:
    endings: tuple[str, ...]
    default_ending: str
    content: Callable[[Run], list[Signal]]
    write: Callable[[Path, list[Signal], dict[str, Any], Run], None]
    is_folder: bool = False


def _pictures(run: Run) -> list[Signal]:
    return [*maps_of(run), *patterns_of(run)]


def _everything(run: Run) -> list[Signal]:
    return [*_pictures(run), *stacks_of(run)]


_FORMATS = {
    "hspy": _Format((".hspy",), ".hspy", _pictures, _write_hspy),
    "emd": _Format((".h5", ".emd"), ".h5", _pictures, _write_emd),
    "zarr": _Format((".zarr",), ".zarr", _everything, _write_zarr, is_folder=True),
    "tiff": _Format((), "_tiff", _pictures, _write_tiff, is_folder=True),
    "csv": _Format((".csv",), ".csv", maps_of, _write_csv),
}

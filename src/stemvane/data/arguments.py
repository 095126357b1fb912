"""What public functions accept, and what they say of another kind of object."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable
from stemvane.errors import DataError

__all__ = [
    "HyperSpySignal",
    "ScanLike",
    "as_dataset",
    "read_rows",
    "require",
    "require_array",
    "require_list",
    "require_numbers",
    "require_path",
    "require_same_scan",
]

Kind = TypeVar("Kind")


class HyperSpySignal(Protocol):
    """A signal of HyperSpy or pyxem."""

    axes_manager: Any
    data: Any


ScanLike = Dataset4D | NDArray[Any] | da.Array | HyperSpySignal
"""A data set, an array of four axes ``(scan_y, scan_x, k_y, k_x)``, or a (lazy) HyperSpy signal."""

_FIRST = {
    "Dataset4D": "call open_dataset(path) first",
    "Measurements": "call measure first: measured = measure(scan)",
    "Embedding": "call fit and embed first: embedding = model.fit(measured).embed(measured)",
    "Run": "open it first: run = Run.open(folder), or make one with run_pipeline",
    "Config": "give Config() or Config.from_toml(path)",
    "MeasureConfig": "give a MeasureConfig, such as Config().measure",
    "VirtualDetector": "make one with VirtualDetector.disc or VirtualDetector.annulus, and give a list",
    "Sweep": "open it first: sweep = Sweep.open(folder), or make one with run_sweep",
}


def as_dataset(scan: ScanLike, caller: str) -> Dataset4D:
    """A data set as it is, or made of an array or a signal.

    Parameters
    ----------
    scan : Dataset4D, array of four axes or HyperSpy signal
        What the user gave.
    caller : str
        Name of the function that it was given to, for the message.

    Returns
    -------
    Dataset4D

    Raises
    ------
    DataError
        If it is something else, or does not hold a real array of four axes.
    """
    if isinstance(scan, Dataset4D):
        return scan
    if hasattr(scan, "axes_manager"):
        return Dataset4D.from_hyperspy(scan)
    if isinstance(scan, np.ndarray | da.Array):
        return Dataset4D.from_array(scan)
    raise DataError(
        f"{caller} takes a Dataset4D, an array of four axes or a HyperSpy signal, not {_kind(scan)}; {_scan_from(scan)}"
    )


def require(value: object, kind: type[Kind], caller: str) -> Kind:
    """The value, if it is of a kind.

    Raises
    ------
    DataError
        If it is not; the message says what to call first.
    """
    if isinstance(value, kind):
        return value
    raise DataError(f"{caller} takes {_name_of(kind.__name__)}, not {_kind(value)}; {_FIRST[kind.__name__]}")


def require_list(values: object, kind: type[Kind], caller: str) -> list[Kind]:
    """The values, if they are several of a kind.

    Raises
    ------
    DataError
        If it is a single one, or one of them is of another kind; the message says what to give.
    """
    if isinstance(values, kind):
        raise DataError(f"{caller} takes a list, not {_name_of(kind.__name__)} by itself; give it in square brackets")
    if not isinstance(values, Iterable) or isinstance(values, str):
        return [require(values, kind, caller)]
    return [require(value, kind, caller) for value in values]


def require_same_scan(embedding: object, measurements: object, caller: str) -> None:
    """Refuse what is no embedding and no measurements, or are those of scans of different shapes.

    Raises
    ------
    DataError
        If they are; the message says what to call first.
    """
    scan = require(measurements, Measurements, caller).scan_shape
    embedded = require(embedding, Embedding, caller).angle.shape
    if embedded != scan:
        raise DataError(
            f"{caller} takes the embedding of the same scan: it has the shape {embedded}, the scan {scan}; "
            "call model.embed(measured)"
        )


def require_array(value: object, caller: str, what: str, cure: str) -> None:
    """Refuse what is no NumPy array.

    Raises
    ------
    DataError
        If it is none; the message ends with the cure.
    """
    if not isinstance(value, np.ndarray):
        raise DataError(f"{caller} takes {what}, not {_kind(value)}; {cure}")


def require_path(value: object, caller: str, what: str) -> Path:
    """The value as a path, if it is one.

    Raises
    ------
    DataError
        If it is neither text nor a path; the message says what the path shall be of.
    """
    if isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str):
        return Path(value)
    raise DataError(f"{caller} takes the path of {what}, not {_kind(value)}; give it as text or as pathlib.Path")


def require_numbers(value: object, caller: str, what: str) -> NDArray[np.float32]:
    """The value as an array of numbers, if it can be one.

    Raises
    ------
    DataError
        If it cannot; the message says what the numbers shall be.
    """
    if isinstance(value, complex | np.complexfloating) or getattr(getattr(value, "dtype", None), "kind", "") == "c":
        raise DataError(f"{caller} takes {what}, not complex numbers; give their real part or their modulus")
    try:
        # values behind a mask are none
        plain = np.ma.filled(value.astype(np.float32), np.nan) if isinstance(value, np.ma.MaskedArray) else value
        return np.asarray(plain, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{caller} takes {what}, not {_shown(value)}; give an array of numbers") from None


def _shown(value: object) -> str:
    """The value as it was typed where that is short, else its kind."""
    text = repr(value)
    return text if len(text) <= 40 else _kind(value)


def _scan_from(value: object) -> str:
    """What to call to make a scan of something else."""
    if value is None or isinstance(value, str | os.PathLike | Representable):
        return _FIRST["Dataset4D"]
    return "make it an array with numpy.asarray"


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, str | os.PathLike):
        return f"the path '{os.fspath(value)}'"
    return _name_of(type(value).__name__)


def _name_of(word: str) -> str:
    """With its article."""
    if word == "ndarray":
        return "an array"
    return f"{'an' if word[:1] in 'AEIOUaeiou' else 'a'} {word}"


def read_rows(path: str | os.PathLike[str], what: str, columns: str) -> list[dict[str, Any]]:
    """Lines of a CSV file that a user has written, by the names in its first line.

    Parameters
    ----------
    path : str or path-like
        The file.
    what : str
        What it holds, in the plural, for the message.
    columns : str
        Names of the columns that it should have, for the message.

    Returns
    -------
    list of dict

    Raises
    ------
    DataError
        If the file cannot be read, or one of the columns is missing or there twice.
    """
    try:
        # spreadsheets begin a file with a mark of its encoding
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows, header = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: {what} cannot be read ({error}); give a CSV file with the columns {columns}"
        ) from None
    if any(header.count(name) != 1 for name in columns.split(", ")):
        raise DataError(
            f"{path}: its first line is {','.join(header)[:60]!r}; give each of the columns {columns} once, in small "
            "letters and with commas between them"
        )
    return rows

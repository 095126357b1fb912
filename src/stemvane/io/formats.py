"""The formats that `open_dataset` knows: how each is recognised by its content, and what opens it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stemvane.data.dataset import Dataset4D
from stemvane.errors import FileFormatError
from stemvane.io import zarr_layout
from stemvane.io.hdf5_guard import probe
from stemvane.io.on_disk import READABLE
from stemvane.io.readers import (
    abtem_files,
    arrays,
    counted_electrons,
    dectris,
    digital_micrograph,
    emd,
    empad,
    hdf5,
    hspy,
    merlin,
    mrc,
    rosetta,
    streampix,
    tia,
    tiff,
    velox,
    zarr_folders,
)
from stemvane.io.request import Head, Request

__all__ = ["FORMATS", "Format", "look", "recognise"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_START = 4096
_EMPAD_OPTIONS = frozenset({"scan_shape", "sensor", "background"})
_ABTEM_NOTES = {"metadata0", "kwargs0", "ensemble_axes_metadata"}


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes
    ----------
    name : str
        The name that the user knows.
    matches : callable
        Whether the beginning of a file is of this format.
    open : callable
        The reader.
    options : frozenset of str
        Which of ``scan_shape``, ``dataset``, ``shape``, ``dtype``, ``sensor`` and ``background`` it can use.
    """

    name: str
    matches: Callable[[Head], bool]
    open: Callable[[Request], Dataset4D]
    options: frozenset[str] = frozenset({"scan_shape"})


def _starts(*marks: bytes) -> Callable[[Head], bool]:
    return lambda head: head.start.startswith(marks)


def _keys(*names: str) -> Callable[[Head], bool]:
    return lambda head: head.keys >= set(names)


def _is_empad(head: Head) -> bool:
    return empad.is_empad_xml(head.path, head.start)


def _is_dm(head: Head) -> bool:
    # the version, and further on the byte order, which is 0 or 1
    at = {b"\0\0\0\3": 8, b"\0\0\0\4": 12}.get(head.start[:4])
    return at is not None and head.start[at : at + 4] in (b"\0\0\0\0", b"\0\0\0\1")


def _is_tvips(head: Head) -> bool:
    if len(head.start) < 52:
        return False
    size, version, _, _, bits = struct.unpack("<5I", head.start[:20])
    return size == 256 and version in (1, 2) and bits in (8, 16)


def _is_mrc(head: Head) -> bool:
    if head.start[208:212] in (b"MAP ", b"MAP\0"):
        return True
    if head.path.suffix.lower() not in (".mrc", ".mrcs") or len(head.start) < 1024:
        return False
    return any(struct.unpack(f"{order}I", head.start[12:16])[0] in mrc.MODES for order in "<>")


def _is_npz(head: Head) -> bool:
    if not head.start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(head.path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return head.path.suffix.lower() == ".npz"  # its reader tells the trouble


def _is_hdf5(head: Head) -> bool:
    return head.start.startswith(_HDF5_MAGIC)


def _is_hyperspy(head: Head) -> bool:
    return _is_hdf5(head) and hdf5.text(head.attributes.get("file_format", "")) == "HyperSpy"


def _is_velox(head: Head) -> bool:
    return _is_hdf5(head) and {"Version", "Data/Image"} <= head.keys


def _is_dectris(head: Head) -> bool:
    return _is_hdf5(head) and any(name.startswith("entry/data/data_") for name in head.keys)


def _is_counted(head: Head) -> bool:
    return _is_hdf5(head) and {"electron_events/frames", "electron_events/scan_positions"} <= head.keys


def _is_emd(head: Head) -> bool:
    roots = {name.split("/")[0] for name in head.keys}
    is_py4dstem = "emd_group_type" in head.attributes or "version_major" in head.attributes
    return _is_hdf5(head) and (is_py4dstem or bool(roots & {"4DSTEM_experiment", "4DSTEM_simulation", "4DSTEM"}))


def _is_abtem_hdf5(head: Head) -> bool:
    return _is_hdf5(head) and _keys("array", "sampling", "units")(head)


def _is_zarr(head: Head) -> bool:
    return _is_folder(head) or (head.start.startswith(b"PK") and zarr_folders.is_zarr(head.path))


def _is_folder(head: Head) -> bool:
    return head.path.is_dir()


FORMATS = (
    Format("stemvane's Zarr", lambda head: head.attributes.get("format") == zarr_layout.FORMAT, zarr_layout.open_zarr),
    Format(
        "abTEM's Zarr",
        lambda head: (
            _is_folder(head) and bool({"metadata0", "kwargs0", "ensemble_axes_metadata"} & set(head.attributes))
        ),
        abtem_files.open_abtem_zarr,
    ),
    Format("HyperSpy's .zspy", lambda head: _is_zarr(head) and "Experiments" in head.keys, hspy.open_zspy),
    Format("Zarr", _is_zarr, zarr_folders.open_plain_zarr, frozenset({"scan_shape", "dataset"})),
    Format("HyperSpy's .hspy", _is_hyperspy, hspy.open_hspy),
    Format("Velox .emd", _is_velox, velox.open_velox, frozenset({"scan_shape", "dataset"})),
    Format("Dectris master", _is_dectris, dectris.open_dectris),
    Format("4D Camera (stempy)", _is_counted, counted_electrons.open_counted_electrons),
    Format("EMD (py4DSTEM, Prismatic, NCEM)", _is_emd, emd.open_emd, frozenset({"scan_shape", "dataset"})),
    Format("abTEM's HDF5", _is_abtem_hdf5, abtem_files.open_abtem_hdf5),
    Format("HDF5, NeXus", _is_hdf5, hdf5.open_plain_hdf5, frozenset({"scan_shape", "dataset"})),
    Format("Merlin .mib", _starts(b"MQ1,"), merlin.open_mib),
    Format("Merlin .hdr", _starts(b"HDR,"), merlin.open_hdr),
    Format("EMPAD .xml", _is_empad, empad.open_empad, _EMPAD_OPTIONS),
    Format("Gatan .dm3, .dm4", _is_dm, digital_micrograph.open_dm, frozenset({"scan_shape", "dataset"})),
    Format("NanoMegas .blo", _starts(b"IMGBLO"), rosetta.open_blockfile),
    Format("StreamPix .seq", _starts(streampix.SEQ_MARK), streampix.open_seq),
    Format("TVIPS", _is_tvips, rosetta.open_tvips),
    Format("MRC", _is_mrc, mrc.open_mrc),
    Format("TIFF stack", _starts(*tiff.TIFF_MARKS), tiff.open_tiff),
    Format("TIA .ser", _starts(b"II\x97\x01"), tia.open_ser),
    Format("TIA .emi", lambda head: tia.is_emi(head.path), tia.open_emi),
    Format("NumPy .npy", _starts(b"\x93NUMPY"), arrays.open_npy),
    Format("NumPy .npz", _is_npz, arrays.open_npz, frozenset({"scan_shape", "dataset"})),
)
RAW = Format(
    "raw binary", lambda head: not _is_folder(head), arrays.open_raw, frozenset({"scan_shape", "shape", "dtype"})
)
EMPAD_RAW = Format(
    "EMPAD .raw",
    lambda head: empad.is_empad_raw(head.path, head.start, head.size),
    empad.open_empad_raw,
    _EMPAD_OPTIONS,
)


def look(path: Path) -> Head:
    """Read the beginning of a file or folder.

    Raises
    ------
    FileFormatError
        If it is empty, or no Zarr folder.
    """
    if path.is_dir():
        if any(name.endswith(".partial") for name in (path.name, path.absolute().parent.name)):
            raise FileFormatError(f"{path}: left behind by a write that did not finish; write the data set again")
        if not zarr_folders.is_zarr(path):
            raise FileFormatError(f"{path}: a folder, but not a Zarr one; {READABLE}")
        keys, attributes = zarr_folders.zarr_sketch(path)
        return Head(path, keys=keys, attributes=attributes)
    with path.open("rb") as stream:
        start = stream.read(_START)
        size = stream.seek(0, 2)
    if not start:
        raise FileFormatError(f"{path}: the file is empty; copy or record it again")
    if start.startswith(b"PK") and zarr_folders.is_zarr(path):
        return Head(path, start, size, *zarr_folders.zarr_sketch(path))
    if not start.startswith(_HDF5_MAGIC):
        return Head(path, start, size)
    probe(path)
    keys, attributes = hdf5.sketch(path)
    return Head(path, start, size, keys, attributes)


def recognise(head: Head, request: Request) -> Format:
    """The format of a file.

    Raises
    ------
    FileFormatError
        If it is none that stemvane knows, or cannot use what the user says of it.
    """
    matching = next((kind for kind in FORMATS if kind.matches(head)), None)
    if matching is None and (request.shape is not None or request.dtype is not None):
        matching = RAW
    if matching is None and EMPAD_RAW.matches(head):
        matching = EMPAD_RAW
    if matching is None:
        raise FileFormatError(f"{head.path}: not a format that stemvane knows; {READABLE}")
    if request.dataset is not None and _is_hdf5(head) and "dataset" not in matching.options:
        matching = next(kind for kind in FORMATS if kind.name == "HDF5, NeXus")
    for option in ("dataset", "shape", "dtype", "sensor", "background"):
        if getattr(request, option) is not None and option not in matching.options:
            raise FileFormatError(f"{head.path}: is {matching.name}, which needs no source.{option}; leave it out")
    return matching

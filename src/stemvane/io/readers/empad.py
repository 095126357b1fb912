"""EMPAD and EMPAD-G2: frames of 128 x 128 pixels in a .raw, notes in an .xml.

The two generations differ in what follows a frame, nothing or two rows of notes, so that 65 frames of the second are as
large as 64 of the first. Counts are negative by right where the dark level was subtracted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from stemvane.data.dataset import Dataset4D
from stemvane.errors import DataError, FileFormatError
from stemvane.io.on_disk import file_errors
from stemvane.io.readers.empad_sensor import CountedFrames, mean_background, read_sensor
from stemvane.io.request import Request
from stemvane.io.stack import Frames, Part, RawFrames, fold

__all__ = ["is_empad_raw", "is_empad_xml", "open_empad", "open_empad_raw"]

_SIDE = 128
_FRAME_BYTES = 4 * _SIDE**2
_FIRST_STRIDE = _FRAME_BYTES + 2 * 4 * _SIDE
_LARGEST_XML = 2**20
# frames of a sum, and the frames between two sums, which a wrong stride moves by 64 of the 128 rows
_SUMMED, _APART = 8, 32


def is_empad_xml(path: Path, start: bytes) -> bool:
    """Whether a file that begins so is the notes of an EMPAD."""
    return start.lstrip().startswith(b"<") and re.search(b"raw_?file", path.read_bytes()[:_LARGEST_XML]) is not None


def is_empad_raw(path: Path, start: bytes, size: int) -> bool:
    """Whether a file without a header is an EMPAD's: by its size, its name, its words, or the notes beside it."""
    if path.suffix.lower() != ".raw" or not size:
        return False
    if size % _FIRST_STRIDE == 0 or _scan_in_name(path.name) is not None or _notes_beside(path) is not None:
        return True
    # bit 30 is set in every word of recorded EMPAD-G2 frames; zeros and numbers near to them, as any frame has, lack it
    words = np.frombuffer(start[: len(start) // 4 * 4], "<u4")
    return size % _FRAME_BYTES == 0 and bool(np.all(words & 1 << 30))


def open_empad_raw(request: Request) -> Dataset4D:
    """Open the .raw of an EMPAD, with the .xml beside it where there is one.

    Raises
    ------
    FileFormatError
        If it holds what only the sensor's calibration makes counts, and this is not given, or incomplete.
    DataError
        If the shape of the scan is unknown or does not fit, or a calibration is given for counts.
    """
    path = request.path
    described = _notes_beside(path)
    if described is not None:
        return open_empad(replace(request, path=described))
    return _open(request, path, {}, _scan_in_name(path.name), is_second=_is_second(path))


def open_empad(request: Request) -> Dataset4D:
    """Open the .xml of an EMPAD and the .raw it names.

    Raises
    ------
    FileFormatError
        If it names no file that is there, or that holds what only the sensor's calibration makes counts, and this is
        not given, or incomplete.
    DataError
        If the shape of the scan is unknown or does not fit, or a calibration is given for counts.
    """
    path = request.path
    root = ElementTree.parse(path).getroot()
    notes = _flatten(root)
    name = _raw_name(root, notes)
    if not name:
        raise FileFormatError(
            f"{path}: names no file of frames; copy it again, or give the .raw file and source.scan_shape"
        )
    raw = path.with_name(name)
    if not raw.is_file():
        raise FileFormatError(f"{path}: refers to {raw.name}, which is not beside it; put them side by side")
    is_second = notes.get("sensor.type") == "EMPAD2"
    scan = None if "scan_parameters.series_count" in notes else _recorded_scan(notes, name)
    dataset = _open(request, raw, notes, scan, is_second=is_second)
    axes = [*_scan_axes(notes, dataset.scan_shape if dataset.scan_shape == scan else None), *_detector_axes(notes)]
    volts = [_number(notes, f"iom_measurements.{key}") for key in _VOLTAGES]
    files = (path.absolute(), *(dataset.files or (raw.absolute(),)))
    return replace(dataset, path=path, name=path.stem, files=files).with_axes(axes, {"beam_energy": 1e-3 * max(volts)})


_VOLTAGES = ("source.get_voltage", "high_voltage", "ColumnSourceHighVoltage")


def _open(
    request: Request, raw: Path, notes: Mapping[str, str], scan: tuple[int, int] | None, *, is_second: bool
) -> Dataset4D:
    numbers = _frames(raw, is_second=is_second, dtype="<f4")
    frames: Frames = numbers
    files: tuple[Path, ...] = ()
    if is_second and _is_encoded(numbers, notes):
        frames, files = _counted(raw, request)
    elif request.sensor or request.background:
        raise DataError(f"{raw}: holds counts already; leave out source.sensor and source.background")
    data, missing = fold(frames, request, scan, path=raw, may_miss=True)
    return Dataset4D(data=data, name=raw.stem, path=raw, missing=missing, files=files)


def _frames(raw: Path, *, is_second: bool, dtype: str) -> RawFrames:
    stride = _FRAME_BYTES if is_second else _FIRST_STRIDE
    part = Part(str(raw.absolute()), 0, raw.stat().st_size // stride)
    return RawFrames((part,), stride, _FRAME_BYTES, (_SIDE, _SIDE), np.dtype(dtype))


def _counted(raw: Path, request: Request) -> tuple[CountedFrames, tuple[Path, ...]]:
    """Frames of words as counts, and the files that they are made from."""
    if not request.sensor or not request.background:
        raise FileFormatError(
            f"{raw}: holds the words of an EMPAD-G2 before its calibration; give source.sensor, the calibration of the "
            "sensor, and source.background, frames without a beam, or what the detector's program makes of the file"
        )
    background = Path(request.background)
    with file_errors(background):
        dark = _frames(background, is_second=True, dtype="<u4")
    if background.stat().st_size % _FRAME_BYTES or (dark.n_frames and not _is_encoded(dark, {})):
        raise FileFormatError(
            f"{background}: holds no words of an EMPAD-G2 as {raw.name} does; give as source.background the .raw file "
            "of frames without a beam, as it was recorded"
        )
    sensor = read_sensor(Path(request.sensor), (_SIDE, _SIDE))
    words = _frames(raw, is_second=True, dtype="<u4")
    counted = CountedFrames(words, sensor, mean_background(background, dark, sensor))
    return counted, (raw.absolute(), *sensor.files, background.absolute())


def _notes_beside(path: Path) -> Path | None:
    """The .xml in the same folder that names a .raw."""
    for described in sorted(path.parent.glob("*.xml")):
        with described.open("rb") as stream:
            words = stream.read(_LARGEST_XML)
        if path.name.encode() in words and is_empad_xml(described, words):
            return described
    return None


def _flatten(root: ElementTree.Element, prefix: str = "") -> dict[str, str]:
    """Words by the path of their tags; of several scans the one that was acquired, not the search for the place."""
    notes: dict[str, str] = {}
    for tag in root:
        if tag.tag == "scan_parameters" and tag.get("mode", "acquire") != "acquire":
            continue
        notes[prefix + tag.tag] = (tag.text or "").strip()
        notes |= _flatten(tag, f"{prefix}{tag.tag}.")
    return notes


def _raw_name(root: ElementTree.Element, notes: Mapping[str, str]) -> str:
    described = root.find("raw_file")
    name = None if described is None else described.get("filename")
    name = name or notes.get("raw_file.filename") or notes.get("rawfile.filename") or ""
    return Path(name.replace("\\", "/")).name


def _recorded_scan(notes: Mapping[str, str], name: str) -> tuple[int, int] | None:
    """The scan in the words of each version of the programs; some have it in the name of the .raw only."""
    for y, x in (("pix_y", "pix_x"), *((f"scan_parameters.scan_resolution_{axis}" for axis in "yx"),)):
        rows, columns = int(_number(notes, y)), int(_number(notes, x))
        if rows > 0 and columns > 0:
            return rows, columns
    pair = re.fullmatch(r"[(\[]?\s*(\d+)\s*,\s*(\d+)\s*[)\]]?", notes.get("scan.shape", ""))
    return (int(pair[1]), int(pair[2])) if pair else _scan_in_name(name)


def _scan_in_name(name: str) -> tuple[int, int] | None:
    """The scan of ``scan_x256_y128.raw``."""
    match = re.fullmatch(r"scan(?:_.*)?_\D(\d+)_\D(\d+)", name.split(".")[0])
    return (int(match[2]), int(match[1])) if match and int(match[1]) and int(match[2]) else None


def _scan_axes(notes: Mapping[str, str], scan: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Steps from the field of view, as RosettaSciIO reads it."""
    if scan is None:
        return [{}, {}]
    both = re.findall(r"[-+.\deE]+", notes.get("iom_measurements.optics.get_full_scan_field_of_view", ""))
    if len(both) == 2:
        fields = [_positive(text) / n for text, n in zip(both, scan, strict=True)]
    else:
        # version 1.2 stores the field of the longer side, times the factor
        field = _number(notes, "iom_measurements.full_scan_field_of_view.x")
        factor = _number(notes, "iom_measurements.full_scan_field_of_view.scale_factor")
        fields = [field / factor / max(scan) if factor else 0.0] * 2
    return [{"scale": field, "units": "m"} for field in fields]


def _detector_axes(notes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Steps of the detector; the angle needs no energy, and in the second generation only it is known."""
    angle = _number(notes, "iom_measurements.calibrated_diffraction_angle")
    if angle:
        return [{"scale": angle, "units": "rad"}] * 2
    reciprocal = 0.0 if "sensor.type" in notes else _number(notes, "iom_measurements.calibrated_pixelsize")
    return [{"scale": 1e9 * reciprocal, "units": "1/nm"}] * 2


def _number(notes: Mapping[str, str], key: str) -> float:
    return _positive(notes.get(key, ""))


def _positive(text: str) -> float:
    """A positive number, 0 where it is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < np.inf else 0.0


def _words(path: Path, offset: int, n: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.fromfile(path, "<u4", n, offset=offset)


def _is_second(path: Path) -> bool:
    """Whether frames follow each other without notes: where both sizes fit, by which stride patterns look alike."""
    size = path.stat().st_size
    if size % _FIRST_STRIDE or size % _FRAME_BYTES:
        return size % _FIRST_STRIDE != 0 and size % _FRAME_BYTES == 0

    def likeness(stride: int) -> float:
        def sum_from(first: int) -> Any:
            # the upper half of a word grows with its size, be it a number or encoded
            words = [_words(path, (first + i) * stride, _SIDE**2) >> 16 & 0x7FFF for i in range(_SUMMED)]
            return np.sum(words, axis=0, dtype=np.float64)

        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.nan_to_num(np.corrcoef(sum_from(0), sum_from(_APART))[0, 1]))

    return likeness(_FRAME_BYTES) > likeness(_FIRST_STRIDE)


def _is_encoded(frames: RawFrames, notes: Mapping[str, str]) -> bool:
    """Whether words are still analogue value, counter and gain, not numbers.

    As numbers they are all above 2, where bit 30 is set, or all next to nothing, where it is not.
    """
    frames = replace(frames, dtype=np.dtype("<f4"))
    places = {0, frames.n_frames // 2, frames.n_frames - 1} if frames.n_frames else set()
    values = [np.abs(frames.read(i, i + 1)) for i in places]
    if not values:
        return False
    sizes = np.concatenate(values)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not sizes.size:
        return False
    has_offsets = any(f"grabber.avg_scan_{which}_offset" in notes for which in ("even", "odd"))
    constant = bool(np.all(sizes >= 2)) and (has_offsets or float(np.median(sizes)) < 2.1)
    return constant or float(np.median(sizes)) < 1e-20

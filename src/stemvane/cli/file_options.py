"""Options that say how a file is read, and the section [source] that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stemvane.cli.options import drop_missing, read_whole

__all__ = [
    "ArrayOption",
    "BackgroundOption",
    "DtypeOption",
    "FlybackOption",
    "IgnoreOption",
    "ImageOption",
    "ScanOption",
    "SensorOption",
    "ShapeOption",
    "SkipOption",
    "VacuumOption",
    "reading_settings",
]

ScanOption = Annotated[str | None, typer.Option(help="probe positions YxX, for a stack of frames that does not say it")]
ArrayOption = Annotated[
    str | None,
    typer.Option(
        help="which array of a file that holds several: its path in HDF5, Zarr or .npz, its number or name in .dm4"
    ),
]
ShapeOption = Annotated[
    str | None, typer.Option(help="shape of raw binary, the fastest axis last, such as 64x64x128x128")
]
DtypeOption = Annotated[str | None, typer.Option(help="number type of raw binary, such as uint16 or '>u2'")]
SkipOption = Annotated[
    int | None, typer.Option("--skip-frames", help="frames at the beginning of a stack that are not part of the scan")
]
IgnoreOption = Annotated[bool, typer.Option("--ignore-extra", help="leave out the frames of a stack after the scan")]
FlybackOption = Annotated[
    int | None, typer.Option("--flyback", help="frames to leave out at the end of each scan line of a stack")
]
SensorOption = Annotated[
    Path | None, typer.Option(help="calibration of an EMPAD-G2's sensor, for frames before it: HDF5, or folder of .r32")
]
BackgroundOption = Annotated[Path | None, typer.Option(help="EMPAD-G2 frames without a beam, which go with --sensor")]
ImageOption = Annotated[Path | None, typer.Option(help="dark-field image of the scan's shape: .npy, .tif, .png, .dm3")]
VacuumOption = Annotated[
    Path | None, typer.Option(help="file of the probe in vacuum: its disc gives optical axis and disc radius")
]


def reading_settings(
    file: Path,
    scan: str | None,
    dataset: str | None,
    shape: str | None,
    dtype: str | None,
    skip_frames: int | None,
    ignore_extra: bool,
    flyback: int | None,
    sensor: Path | None,
    background: Path | None,
    image: Path | None,
    vacuum: Path | None,
) -> dict[str, Any]:
    """How to read the file, as the section [source] takes it."""
    choices = {
        "path": str(file),
        "scan_shape": None if scan is None else read_whole(scan, "--scan", (2,)),
        "dataset": dataset,
        "shape": None if shape is None else read_whole(shape, "--shape", (3, 4)),
        "dtype": dtype,
        "skip_frames": skip_frames,
        "ignore_extra": ignore_extra or None,
        "flyback": flyback,
        "sensor": None if sensor is None else str(sensor),
        "background": None if background is None else str(background),
        "image": None if image is None else str(image),
        "vacuum": None if vacuum is None else str(vacuum),
    }
    return drop_missing(choices)

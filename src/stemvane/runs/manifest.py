"""What a run's manifest says: versions, machine, and what each stage took and was made from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "digest",
    "finished_stages",
    "largest_memory_mb",
    "new_manifest",
    "now",
    "peak_memory_mb",
    "source_record",
    "spent",
]

_PACKAGES = (
    "stemvane", "numpy", "scipy", "numba", "dask", "zarr", "torch", "safetensors",
    "abtem", "ase", "rosettasciio", "h5py", "pydantic", "matplotlib",
)  # fmt: skip
_EDGE = 2**20


def new_manifest(command: str, seed: int) -> dict[str, Any]:
    """Manifest of a run that begins now, in this process."""
    return {
        "kind": "run",
        "status": "running",
        "started": now(),
        "command": command,
        "seed": seed,
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "resumed": [],
        "stages": {},
    }


def finished_stages(manifest: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Stages that a manifest says are complete, in their order; whatever is not as we write it is left out."""
    stages = (manifest or {}).get("stages")
    return {name: record for name, record in (stages if isinstance(stages, dict) else {}).items() if _is_whole(record)}


def source_record(name: str, shape: Sequence[int], dtype: object, path: Path | None) -> dict[str, Any]:
    """Where data came from; a file is recognised by its size and a hash over its first and last MiB."""
    record: dict[str, Any] = {"name": name, "shape": list(shape), "dtype": str(dtype)}
    if path is None:
        return record
    record["path"] = str(Path(path).resolve())
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            hashed = hashlib.sha256(file.read(_EDGE))
            size = file.seek(0, 2)
            file.seek(max(size - _EDGE, 0))
            hashed.update(file.read(_EDGE))
        record |= {"bytes": size, "sha256_first_and_last_mib": hashed.hexdigest()}
    return record


def digest(values: object) -> str:
    """SHA-256 over plain values, whatever the order of their keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def spent(seconds: float) -> dict[str, float]:
    """Wall time of a stage and the largest memory held up to its end, as they stand in its record."""
    return {"wall_seconds": round(seconds, 4), "peak_memory_mb": round(peak_memory_mb(), 1)}


def largest_memory_mb(manifest: Mapping[str, Any]) -> float:
    """Largest memory held by this process or, in stages taken over, by an earlier one, in MB (10⁶ bytes)."""
    stages = (float(record["peak_memory_mb"]) for record in manifest["stages"].values())
    return max([round(peak_memory_mb(), 1), *stages])


def peak_memory_mb() -> float:
    """Largest memory that this process has held so far, in MB (10⁶ bytes)."""
    try:  # ru_maxrss would also count the parent from before exec
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return float(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 1e6


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_whole(record: Any) -> bool:
    if not isinstance(record, dict) or record.get("complete") is not True:
        return False
    numbers = (record.get("wall_seconds"), record.get("peak_memory_mb"))
    return all(isinstance(number, int | float) for number in numbers) and isinstance(record.get("parts"), dict)


@cache  # a look through all installed packages, and they stay what they are while a process runs
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

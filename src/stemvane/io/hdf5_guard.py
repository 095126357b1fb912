"""A look at an HDF5 file from another process.

A few flipped bytes make the HDF5 library loop without end or crash when it follows them (1 in 150 files with some
flipped bytes), and nothing in this process could stop it. So a short-lived process walks the file first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stemvane.errors import FileFormatError

__all__ = ["probe"]

PATIENCE = 60.0
"""Seconds that the walk may take."""

_MOST_MEMORY = 4 * 2**30
_checked: set[tuple[str, int, int]] = set()

# everything that the readers touch: names, links, attributes, small arrays, and the index of every array's chunks
_WALK = """
import sys
sys.path[:] = {path!r}
try:
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = {memory} if hard == resource.RLIM_INFINITY else min({memory}, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
except (ImportError, ValueError, OSError):
    pass
import h5py

def look(name, thing):
    try:
        for key in thing.attrs:
            try:
                thing.attrs[key]
            except Exception:
                pass
        if isinstance(thing, h5py.Dataset):
            if thing.size is not None and thing.size <= 65536:
                thing[()]
            elif thing.chunks is not None:
                thing.id.get_num_chunks()
    except Exception:
        pass

with h5py.File({file!r}, "r") as file:
    look("/", file)
    file.visititems(look)
"""


def probe(path: Path) -> None:
    """Make sure that the HDF5 library can walk a file, in a process that may die of it.

    Raises
    ------
    FileFormatError
        If it crashes on the file or does not come to an end.

    Notes
    -----
    Takes about 0.3 s, once for each file in a session. What the library reports itself is left to the caller to meet.
    """
    status = path.stat()
    mark = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if mark in _checked or not sys.executable:
        return
    code = _WALK.format(path=sys.path, memory=_MOST_MEMORY, file=mark[0])
    # HDF5's own locks are of no use to a reader, and fail on some network disks
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise FileFormatError(
            f"{path}: the HDF5 library does not come to an end with it; the file is damaged: copy it again"
        ) from None
    if done.returncode < 0:
        raise FileFormatError(f"{path}: the HDF5 library crashes on it; the file is damaged: copy it again")
    _checked.add(mark)

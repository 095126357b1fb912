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
# what the walk ends with where raw numbers lie outside of the folder, and how many linked files it follows
_OUTSIDE, _MOST_LINKED = 3, 10_000
_checked: set[tuple[str, int, int]] = set()

# everything that the readers touch: names, links, attributes, small arrays, and the index of every array's chunks
_WALK = """
import os
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

def require_inside(name, thing, folder):
    # names that are not absolute are taken from the current folder
    properties = thing.id.get_create_plist()
    for number in range(properties.get_external_count()):
        place = os.path.realpath(os.fsdecode(properties.get_external(number)[0]))
        if not place.startswith(folder.rstrip(os.sep) + os.sep):
            print(name, flush=True)
            os._exit({outside})

def look(name, thing):
    if isinstance(thing, h5py.Dataset):
        require_inside(name, thing, os.path.dirname(os.path.realpath(thing.file.filename)))
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

def walk(path, seen):
    with h5py.File(path, "r") as file:
        look("/", file)
        linked = []

        def visit(name, thing):
            look(name, thing)
            if isinstance(thing, h5py.Group):
                linked.extend(links(thing))

        linked.extend(links(file))
        file.visititems(visit)
    for name in linked:
        other = os.path.realpath(os.path.join(os.path.dirname(path), name))
        if other not in seen and len(seen) < {most_linked} and h5py.is_hdf5(other):
            seen.add(other)
            try:
                walk(other, seen)
            except OSError:
                pass

def links(group):
    try:
        every = [group.get(key, getlink=True) for key in group]
    except Exception:
        return []
    return [link.filename for link in every if isinstance(link, h5py.ExternalLink)]

walk({file!r}, {{os.path.realpath({file!r})}})
"""


def probe(path: Path) -> None:
    """Make sure that the HDF5 library can walk a file, in a process that may die of it.

    Raises
    ------
    FileFormatError
        If it crashes on the file or does not come to an end, or if an array of the file, or of one that it links to,
        is kept as raw numbers outside of its folder: any file of the computer could be named there.

    Notes
    -----
    Takes about 0.3 s, once for each file in a session. What the library reports itself is left to the caller to meet.
    """
    status = path.stat()
    mark = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if mark in _checked or not sys.executable:
        return
    code = _WALK.format(path=sys.path, memory=_MOST_MEMORY, file=mark[0], outside=_OUTSIDE, most_linked=_MOST_LINKED)
    # HDF5's own locks are of no use to a reader, and fail on some network disks
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise FileFormatError(
            f"{path}: the HDF5 library does not come to an end with it; the file is damaged: copy it again"
        ) from None
    if done.returncode == _OUTSIDE:
        name = os.fsdecode(done.stdout or b"an array").strip()
        raise FileFormatError(
            f"{path}: {name} is kept outside of the file's folder, where stemvane does not read; copy the raw numbers "
            "into the folder and start there, or into the file with h5repack"
        )
    if done.returncode < 0:
        raise FileFormatError(f"{path}: the HDF5 library crashes on it; the file is damaged: copy it again")
    _checked.add(mark)

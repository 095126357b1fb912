"""Places for results: which names may be written to, what is ever replaced there, and how a result appears whole."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from stemvane.errors import StemvaneError
from stemvane.io.atomic import read_manifest, remove, write_json

__all__ = ["Place", "has_kind", "new_mark", "partial", "require_apart"]

_WRITING = "writing"


@dataclass(frozen=True)
class Place:
    """A name that a result is to get, checked before any work is done.

    Make one with `Place.checked`.

    Attributes
    ----------
    path : Path
        Absolute path of the result.
    noun : str
        What the result is, for messages.
    is_ours : callable
        Whether what has a name now was written by stemvane and may be replaced by a result of this kind.
    error : type
        Class of the errors that are raised.
    overwrite : bool
        Whether what `is_ours` may be replaced.
    is_folder : bool
        Whether the result is a folder; a single file otherwise.
    """

    path: Path
    noun: str
    is_ours: Callable[[Path], bool]
    error: type[StemvaneError]
    overwrite: bool = False
    is_folder: bool = True

    @classmethod
    def checked(
        cls,
        path: str | os.PathLike[str],
        noun: str,
        is_ours: Callable[[Path], bool],
        error: type[StemvaneError],
        *,
        overwrite: bool = False,
        is_folder: bool = True,
        inputs: Iterable[str | os.PathLike[str]] = (),
    ) -> Place:
        """Refuse a name that cannot be written to, or under which something would be lost.

        Parameters
        ----------
        path : str or path
            Name of the result; the folders above it are made when they are needed.
        noun, is_ours, error, overwrite, is_folder
            Attributes of the place.
        inputs : iterable of str or path
            Files and folders that the result is made from: it may neither hold one of them nor lie in one.

        Returns
        -------
        Place

        Raises
        ------
        StemvaneError
            Of the class `error`: if the name is that of no file or folder, of a link, or of something that is not to be
            replaced, if an input would be lost, if a hidden name beside it is taken by something else, or if nothing
            can be written there.
        """
        given = Path(path)
        if given.name in ("", ".."):
            raise error(f"{os.fspath(path) or '.'}: cannot be the name of a new {noun}; choose another name")
        target = given.absolute()
        if ".." in target.parts:
            target = target.parent.resolve() / target.name
        place = cls(target, noun, is_ours, error, overwrite, is_folder)
        try:
            require_apart(target, inputs, error)
            place.require_free()
            place._require_own_names()
            if not os.path.lexists(partial(target)):
                _try_to_write(target.parent)
        except (OSError, ValueError) as trouble:
            reason = getattr(trouble, "strerror", None) or trouble
            raise error(
                f"{target}: cannot be written ({reason}); check permissions and free space, or choose another folder"
            ) from None
        return place

    def require_free(self) -> None:
        """Refuse the name if something has it that is not to be replaced.

        Raises
        ------
        StemvaneError
            If it does; the message says how to go on.
        """
        path, cure = self.path, "choose another name"
        if not os.path.lexists(path):
            return
        if path.is_symlink():
            raise self.error(f"{path} exists already and is a link, which is never replaced; {cure}")
        if not (path.is_dir() if self.is_folder else stat.S_ISREG(path.stat().st_mode)):
            kind = "folder" if self.is_folder else "plain file"
            raise self.error(f"{path} exists already and is no {kind}, so it is left alone; {cure}")
        if not self.overwrite:
            raise self.error(f"{path} exists already; {cure}, or overwrite=True to replace it")
        if not self.is_ours(path):
            raise self.error(f"{path} exists but is no {self.noun} of stemvane's, so it is left alone; {cure}")

    def claim(self, *, resume: bool = False) -> Path:
        """Make the hidden folder in which the result is prepared.

        Parameters
        ----------
        resume : bool
            Whether what a killed process has left there stays, where `is_ours`.

        Returns
        -------
        Path
            The sibling ``.<name>.partial``; empty, or with the manifest and the files of a killed run.

        Raises
        ------
        StemvaneError
            If the name is not free, or another process is preparing it.
        OSError
            If the folder cannot be made.
        """
        hidden = partial(self.path)
        self._require_own_names()
        if self.is_folder and _aside(self.path).exists() and not self.path.exists():
            os.replace(_aside(self.path), self.path)  # a replacement was killed between its two renames
        self.require_free()
        if not (resume and hidden.is_dir() and self.is_ours(hidden)):
            remove(hidden)
            hidden.mkdir(parents=True)
        return hidden

    def publish(self, part: Path) -> None:
        """Give a complete file or folder its final name; what has that name stays until then.

        Raises
        ------
        StemvaneError
            If the name is not free any more.
        OSError
            If it cannot be renamed.
        """
        self.require_free()
        aside = _aside(self.path)
        self._require_own_names()
        if self.path.is_dir():  # a file is replaced in one step, a folder is not
            remove(aside)
            os.replace(self.path, aside)
        os.replace(part, self.path)
        if self.is_folder:
            remove(aside)

    @contextmanager
    def written_whole(self) -> Iterator[Path]:
        """Prepare the result in its hidden folder, and give it its name when that is done.

        Yields
        ------
        Path
            The name to write under, in the hidden folder. What a killed write has left there is removed first, and what
            a failed one has written is removed, too.

        Raises
        ------
        StemvaneError
            As `claim` and `publish`.
        OSError
            If it cannot be removed or renamed.
        """
        hidden = self.claim()
        try:
            write_json(hidden / "manifest.json", new_mark(_WRITING))
            yield hidden / self.path.name
            self.publish(hidden / self.path.name)
        finally:
            remove(hidden)

    def _require_own_names(self) -> None:
        """Refuse hidden names that something else has, or that another process is writing to."""
        hidden, aside = partial(self.path), _aside(self.path)
        is_ours = not os.path.lexists(hidden) or (
            hidden.is_dir()
            and not hidden.is_symlink()
            and (_is_unused(hidden) or has_kind(hidden, (_WRITING,)) or self.is_ours(hidden))
        )
        is_set_aside = (
            not self.is_folder
            or not os.path.lexists(aside)
            or (aside.is_dir() and not aside.is_symlink() and self.is_ours(aside))
        )
        for name, is_known in ((hidden, is_ours), (aside, is_set_aside)):
            if not is_known:
                raise self.error(f"{name} is in the way and is not ours; remove it, or choose another name")
        if hidden.is_dir() and _is_written(read_manifest(hidden) or {}):
            raise self.error(f"{self.path}: another process is writing it now; wait for it, or choose another name")


def partial(path: Path) -> Path:
    """Hidden folder in which `path` is prepared."""
    return path.with_name(f".{path.name}.partial")


def new_mark(kind: str) -> dict[str, Any]:
    """Manifest that says of a folder that stemvane wrote it, what kind it is of, when, and which process began it."""
    return {
        "kind": kind,
        "versions": {"stemvane": version("stemvane")},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def has_kind(folder: Path, kinds: Collection[str]) -> bool:
    """Whether a folder's ``manifest.json`` says that stemvane wrote it, and that it is of one of these kinds."""
    manifest = read_manifest(folder) or {}
    versions = manifest.get("versions")
    return manifest.get("kind") in kinds and isinstance(versions, dict) and "stemvane" in versions


def require_apart(path: Path, inputs: Iterable[str | os.PathLike[str]], error: type[StemvaneError]) -> None:
    """Refuse a name for a result that holds an input, is one, or lies in one.

    Raises
    ------
    StemvaneError
        Of the class `error`, if it does.
    """
    cure = "choose another name"
    for source in inputs:
        given = Path(source)
        if not given.exists():
            continue
        lies = given.resolve()
        if any(_is_same(path, folder) for folder in (lies, *lies.parents)):
            how = "is" if _is_same(path, lies) else "holds"
            raise error(f"{path} {how} {given}, which the result is to be made from; {cure}")
        if any(_is_same(folder, lies) for folder in path.parents):
            raise error(f"{path} lies in {given}, which the result is to be made from; {cure}")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are those of the same file or folder, also where the file system knows it by several."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _is_unused(name: Path) -> bool:
    """Whether a folder is empty, or holds only a manifest whose writing was killed."""
    return all(entry.name == ".manifest.json.tmp" for entry in name.iterdir())


def _is_written(manifest: Mapping[str, Any]) -> bool:
    """Whether another process that is still there began this; a younger one has only inherited its number."""
    pid = manifest.get("pid")
    if manifest.get("host") != socket.gethostname() or not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        return float(psutil.Process(pid).create_time()) <= datetime.fromisoformat(manifest["started"]).timestamp() + 1
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False


def _try_to_write(folder: Path) -> None:
    """Write a nameless file in a folder, or in the nearest one above it that exists."""
    while not os.path.lexists(folder):
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass

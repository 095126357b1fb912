"""The server of the viewer: what it shows, where it listens, and how it ends."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stemvane.errors import ConfigError, DataError, RunError
from stemvane.extras import require_package
from stemvane.io.atomic import read_manifest
from stemvane.runs.run import Run
from stemvane.viewer.answers import Answers
from stemvane.viewer.scene import Scene
from stemvane.viewer.web import LOOPBACK, web_app

__all__ = ["RunWatch", "ViewServer", "is_run", "require_server", "scenes_of"]

_FIRST_PORT = 8765
_PORTS_TRIED = 50


def is_run(path: Path) -> bool:
    """Whether a folder says that it is a finished run."""
    manifest = read_manifest(path) if path.is_dir() else None
    return manifest is not None and manifest.get("kind", "run") == "run" and manifest.get("status") == "complete"


def require_server() -> None:
    """Refuse to go on where the packages of the server are missing; a `MissingPackageError`."""
    with require_package("the viewer", "stemvane[view]"):
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401


class RunWatch:
    """The newest finished run in a folder.

    Parameters
    ----------
    folder : Path
        Folder that runs appear in.
    verify : bool
        Whether files are compared with their checksums.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = folder
        self._verify = verify
        self._opened: set[tuple[str, str]] = set()

    def newest(self) -> Path | None:
        """The run that was finished last; None where there is none."""
        runs = [(manifest["finished"], path) for path, manifest in self._runs() if "finished" in manifest]
        return max(runs)[1] if runs else None

    def newer(self) -> str:
        """Name of the newest run, where it has not been opened yet."""
        path = self.newest()
        return "" if path is None or self._key(path) in self._opened else path.name

    def open(self) -> Scene:
        """Open the newest run.

        Raises
        ------
        RunError
            If there is none.
        """
        path = self.newest()
        if path is None:
            raise RunError(f"{self.folder}: neither a run nor a folder with finished runs; give another folder")
        self._opened.add(self._key(path))
        return Scene.of_run(Run.open(path, verify=self._verify))

    def _runs(self) -> list[tuple[Path, dict[str, Any]]]:
        try:
            folders = [path for path in self.folder.iterdir() if not path.name.startswith(".") and is_run(path)]
        except OSError:
            return []
        return [(path, read_manifest(path) or {}) for path in folders]

    def _key(self, path: Path) -> tuple[str, str]:
        return path.name, str((read_manifest(path) or {}).get("finished"))


def scenes_of(
    paths: Sequence[Path], open_file: Callable[[Path], Any], *, verify: bool = True
) -> tuple[list[Scene], RunWatch | None]:
    """Open what is to be shown.

    Parameters
    ----------
    paths : sequence of Path
        Runs, files of scans, or one folder that runs appear in.
    open_file : callable
        Opens a file as a `Dataset4D`.
    verify : bool
        Whether files of runs are compared with their checksums.

    Returns
    -------
    scenes : list of Scene
        One for each path.
    watch : RunWatch or None
        The folder that is watched, where one was given.

    Raises
    ------
    RunError
        If a folder is empty, or a run is damaged.
    """
    watch = None
    scenes = []
    for path in paths:
        folder_of_runs = path.is_dir() and not is_run(path) and any(is_run(entry) for entry in path.iterdir())
        if is_run(path) or (path.is_dir() and (path / "manifest.json").is_file() and not folder_of_runs):
            scenes.append(Scene.of_run(Run.open(path, verify=verify)))
        elif folder_of_runs and len(paths) == 1:
            watch = RunWatch(path.absolute(), verify=verify)
            scenes.append(watch.open())
        elif path.is_dir() and not any(path.iterdir()):
            raise RunError(f"{path}: an empty folder; give a run, a folder of runs, or a scan")
        else:
            scenes.append(Scene.of_dataset(open_file(path)))
    return scenes, watch


class ViewServer:
    """A server that listens but does not answer before `run`.

    Parameters
    ----------
    answers : Answers
        What answers.
    host : str
        Address to listen on. Any but those of this machine needs a token of the user's.
    port : int, optional
        Port; the first free one from 8765 on where left out.
    token : str, optional
        What a browser must show; made up where left out.
    names : sequence of str
        Further names that the server may be called by, such as that of a JupyterHub before it.

    Raises
    ------
    ConfigError
        If the address cannot be listened on, or the server could be reached from other machines without a token that
        the user has chosen.
    MissingPackageError
        If starlette or uvicorn are not installed.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        token: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        if host not in LOOPBACK and not token:
            raise ConfigError(f"other machines could reach the viewer on {host}; give a token of your own, too")
        if token is not None and len(token) < 12:
            raise ConfigError("a token shorter than 12 letters can be guessed; give a longer one, or none")
        self.answers = answers
        self.token = token or secrets.token_urlsafe(24)
        everywhere = host in ("0.0.0.0", "::")
        hosts = [*LOOPBACK, *names, *(_names_of_this_machine() if everywhere else [host])]
        app = web_app(answers, self.token, hosts)
        with require_package("the viewer", "stemvane[view]"):
            import uvicorn
        self._socket = _listen(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        name = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        name = f"[{name}]" if ":" in name else name
        return f"http://{name}:{self.port}/?token={self.token}"

    def run(self) -> None:
        """Answer until the process is stopped."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            for scene in self.answers.scenes:
                scene.close()

    def start(self) -> None:
        """Answer in a thread; returns as soon as the server does."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        while not self._server.started:
            if not thread.is_alive():
                raise DataError("the viewer's server has ended at once; try another port")
            time.sleep(0.005)

    def stop(self) -> None:
        """End what `start` has begun."""
        self._server.should_exit = True


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED) if port is None else [port]
    for each in ports:
        # asyncio switches Nagle's algorithm, which holds answers back for 40 ms, off for sockets that say they are TCP
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, each))
        except (OSError, OverflowError) as error:
            listening.close()
            reason = getattr(error, "strerror", None) or error
            if port is not None or each == ports[-1]:
                raise ConfigError(f"{host}:{each} cannot be listened on ({reason}); choose another port") from None
            continue
        listening.listen(128)
        return listening
    raise ConfigError(f"no port of {host} is free; choose one")


def _names_of_this_machine() -> list[str]:
    name = socket.gethostname()
    try:
        return [name, socket.getfqdn(), *socket.gethostbyname_ex(name)[2]]
    except OSError:
        return [name]

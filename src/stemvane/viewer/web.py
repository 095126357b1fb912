"""The viewer over HTTP: its page, its modules, and the answers to its questions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from stemvane.extras import require_package
from stemvane.viewer.answers import Answers, framed
from stemvane.viewer.bundle import KINDS, bundled, static_files
from stemvane.viewer.guard import Guard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["LOOPBACK", "web_app"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine."""

# a selection of some thousand corners, and labels of many of these
_MOST_BYTES = 4 * 2**20


def web_app(answers: Answers, token: str, hosts: Iterable[str] = LOOPBACK) -> Guard:
    """Make the ASGI application.

    Parameters
    ----------
    answers : Answers
        What answers the page's questions.
    token : str
        What a browser must show once.
    hosts : iterable of str
        Names that the server may be called by.

    Returns
    -------
    Guard
        The application, which no request reaches without the token.

    Raises
    ------
    MissingPackageError
        If starlette is not installed.
    """
    with require_package("the viewer", "stemvane[view]"):
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse, Response, StreamingResponse
        from starlette.routing import Route

    # read once: no name of a request reaches the file system; one script is there sooner than twenty modules
    content = static_files() | {"page.bundle.js": bundled("main").encode()}

    async def page(request: Request) -> Response:
        return Response(content["index.html"], media_type="text/html")

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in content:
            return PlainTextResponse("no such file", 404)
        return Response(content[name], media_type=KINDS[name.rpartition(".")[2]])

    async def ask(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("ask in JSON", 415)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("the question is too long; draw a simpler selection", 413)
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            return PlainTextResponse("the question is no JSON mapping", 400)
        messages = answers.answer(request.path_params["number"], request.path_params["question"], values)
        return StreamingResponse(_stream(messages, run_in_threadpool), media_type="application/octet-stream")

    return Guard(
        Starlette(
            routes=[
                Route("/", page),
                Route("/static/{name}", static),
                Route("/api/{number:int}/{question}", ask, methods=["POST"]),
            ]
        ),
        token,
        hosts,
    )


async def _stream(messages: Iterator[bytes], run_in_threadpool: Any) -> AsyncIterator[bytes]:
    """Work in a thread; a client that goes away ends the work."""
    import anyio

    try:
        while (message := await run_in_threadpool(next, messages, None)) is not None:
            yield framed(message)
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(_close, messages)


def _close(messages: Any) -> None:
    """End a generator; one that is working in another thread ends by itself."""
    with contextlib.suppress(ValueError):
        messages.close()

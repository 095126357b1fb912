"""Who may ask: the holder of the token, from a page of this very server."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Guard"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Let requests through that carry the token or its cookie, name a host of ours, and come from our own page.

    A page of another site can reach a server on this machine, but neither read the cookie nor pretend to be of the
    same origin; a name that an attacker lets point here is no host of ours.

    Parameters
    ----------
    app : ASGI application
        What answers.
    token : str
        The token of the address that was printed.
    hosts : iterable of str
        Names that the server may be called by, without ports.
    """

    def __init__(self, app: _App, token: str, hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in hosts)
        # a cookie that is stolen does not tell the token, and ends with the server
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            raise RuntimeError(f"a connection of type {scope['type']} is not served")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        name = f"stemvane-{(scope.get('server') or ('', 0))[1]}"
        trouble = self._trouble(headers, host)
        if trouble:
            await _refuse(send, 403, trouble)
            return
        token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        has_token = hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)
        if not has_token and not self._has_cookie(headers.get("cookie", ""), name):
            await _refuse(send, 401, "open the address that stemvane view has printed, with its token")
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                extra = dict(_HEADERS)
                if has_token:
                    extra["set-cookie"] = f"{name}={self._session}; HttpOnly; SameSite=Strict"
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _trouble(self, headers: dict[str, str], host: str) -> str:
        hostname = urlsplit(f"//{host}").hostname if _is_host(host) else None
        if hostname is None or hostname.lower() not in self._hosts:
            return "this server is not called by that name; use the address that stemvane view has printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "pages of other sites may not ask this server"
        site = headers.get("sec-fetch-site", "none")
        if site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            return "pages of other sites may not ask this server"
        return ""

    def _has_cookie(self, text: str, name: str) -> bool:
        try:
            cookie = SimpleCookie(text).get(name)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode())


def _is_host(text: str) -> bool:
    """Whether a Host header is of a form that can be taken apart."""
    try:
        return bool(text) and urlsplit(f"//{text}").port != -1 and "@" not in text
    except ValueError:
        return False


async def _refuse(send: _Send, status: int, words: str) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", **_HEADERS}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": words.encode()})

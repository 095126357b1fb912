"""StreamPix' .seq movies, as Direct Electron's older cameras write them: recognised, and refused with a cure."""

from __future__ import annotations

from typing import NoReturn

from stemvane.errors import FileFormatError
from stemvane.io.request import Request

__all__ = ["SEQ_MARK", "open_seq"]

SEQ_MARK = b"\xed\xfe\x00\x00N\x00o\x00r\x00p\x00i\x00x\x00"
"""How a .seq begins: a magic number and the name of its maker in UTF-16."""


def open_seq(request: Request) -> NoReturn:
    """Refuse a movie, whose dark and gain references, halves and time stamps are the camera's own.

    Raises
    ------
    FileFormatError
        Always.
    """
    raise FileFormatError(
        f"{request.path}: is a StreamPix movie (.seq), which stemvane does not read; open it with the package seq-io "
        "and save it as .hspy"
    )

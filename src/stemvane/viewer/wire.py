"""Arrays as the viewer's page takes them: a header in JSON, then codes of 8 or 16 bits that the browser colours."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Coded", "code_array", "decode_message", "encode_message"]

_ALIGNED = 8


class Coded(NamedTuple):
    """An array as codes; a value is ``low + step * code``, and the largest code stands for a missing one.

    Attributes
    ----------
    name : str
        Name within the message.
    codes : ndarray of uint8 or uint16
        The codes.
    low, step : float
        Value of code 0, and difference between neighbouring codes.
    unit : str
        Unit of the values.
    """

    name: str
    codes: NDArray[np.uint8] | NDArray[np.uint16]
    low: float
    step: float
    unit: str


def code_array(name: str, values: ArrayLike, unit: str = "") -> Coded:
    """Code an array.

    Parameters
    ----------
    name : str
        Name within the message.
    values : array_like of float, int or bool
        Values; NaN and infinity become missing.
    unit : str
        Unit of the values.

    Returns
    -------
    Coded
        Counts up to 254 in 8 bits and up to 65534 in 16 bits, without loss; anything else in 16 bits, in 65534 equal
        steps from the smallest value to the largest.
    """
    array = np.asarray(values)
    if array.dtype.kind in "uib" and array.size:
        smallest, largest = int(array.min()), int(array.max())
        if smallest >= 0 and largest < 255:
            return Coded(name, array.astype("u1"), 0.0, 1.0, unit)
        if smallest >= 0 and largest < 65535:
            return Coded(name, array.astype("<u2"), 0.0, 1.0, unit)
    number = array.astype(np.float64)
    finite = np.isfinite(number)
    if not finite.any():
        return Coded(name, np.full(array.shape, 65535, "<u2"), 0.0, 1.0, unit)
    low, high = float(number.min(where=finite, initial=np.inf)), float(number.max(where=finite, initial=-np.inf))
    step = (high - low) / 65534
    if not step > 0:
        step = 1.0
    codes = np.where(finite, np.rint((np.where(finite, number, low) - low) / step), 65535.0)
    return Coded(name, codes.astype("<u2"), low, step, unit)


def encode_message(arrays: Iterable[Coded] = (), **words: Any) -> bytes:
    """Write arrays and plain values as one message.

    Parameters
    ----------
    arrays : iterable of Coded
        The arrays.
    **words
        Values that JSON knows, for the header.

    Returns
    -------
    bytes
        Length of the header as a 32-bit integer, the header, and the codes of each array from a multiple of 8 bytes
        on; everything little-endian.
    """
    entries, parts, offset = [], [], 0
    for array in arrays:
        data = np.ascontiguousarray(array.codes).tobytes()
        entries.append(
            {
                "name": array.name,
                "bits": 8 * array.codes.dtype.itemsize,
                "shape": list(array.codes.shape),
                "low": array.low,
                "step": array.step,
                "unit": array.unit,
                "offset": offset,
            }
        )
        padded = data + b"\0" * (-len(data) % _ALIGNED)
        parts.append(padded)
        offset += len(padded)
    header = json.dumps({**words, "arrays": entries}, ensure_ascii=False, allow_nan=False).encode()
    header += b" " * (-(4 + len(header)) % _ALIGNED)
    return b"".join([struct.pack("<I", len(header)), header, *parts])


def decode_message(message: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Read what `encode_message` wrote.

    Parameters
    ----------
    message : bytes
        The message.

    Returns
    -------
    header : dict
        The header.
    arrays : dict of str to ndarray of float
        Values of each array; NaN where they are missing.
    """
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    arrays = {}
    for entry in header["arrays"]:
        dtype = np.dtype("u1" if entry["bits"] == 8 else "<u2")
        count = int(np.prod(entry["shape"], dtype=int))
        codes = np.frombuffer(message, dtype, count, 4 + length + entry["offset"]).reshape(entry["shape"])
        values = entry["low"] + entry["step"] * codes.astype(np.float64)
        arrays[entry["name"]] = np.where(codes == np.iinfo(dtype).max, np.nan, values)
    return header, arrays

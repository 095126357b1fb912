"""Vector instructions that Numba does not write by itself: prefetching, transposing and sparse sums over 16 lanes.

They are LLVM's generic vectors, so they compile for every processor; addresses are those of NumPy arrays, in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["LANES", "LINE", "SEGMENT", "gather_lanes", "lanes_to_frames", "pixels_to_lanes", "prefetch"]

LANES = 16
"""Frames that are worked on side by side, one in each lane of a vector."""
SEGMENT = 32
"""Neighbouring pixels that are transposed together: one cache line of 16-bit counts."""
LINE = 64
"""Bytes of a cache line."""

_LANE_BYTES = 4 * LANES
_BYTE, _INT32, _FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
_LANE_VECTOR = ir.VectorType(_FLOAT, LANES)


def _intrinsic(function: Callable[..., Any]) -> Any:
    # Numba's own types ask the caller for the typing context, which Numba gives
    return intrinsic(function)


@_intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Ask for the cache line at an address; one beyond the array does no harm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _BYTE.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # to be read (0), soon, but from the second-level cache (2), data (1)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), _INT32(0), _INT32(2), _INT32(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


@_intrinsic
def pixels_to_lanes(typing: Any, source: Any, stride: Any, table: Any, example: Any) -> Any:
    """Transpose a segment of pixels of 16 frames, `stride` bytes apart, to float32 with the frames in the lanes.

    `example` is any value of the frames' type.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, step, target, _ = arguments
        vector = ir.VectorType(context.get_data_type(example), SEGMENT)
        rows = [_load(builder, builder.add(start, builder.mul(step, step.type(i))), vector, 1) for i in range(LANES)]
        nothing = ir.Constant(vector, ir.Undefined)
        for part in range(0, SEGMENT, LANES):
            chosen = _indices(range(part, part + LANES))
            columns = _transpose(builder, [builder.shuffle_vector(row, nothing, chosen) for row in rows])
            for i, column in enumerate(columns):
                place = builder.add(target, target.type((part + i) * _LANE_BYTES))
                _store(builder, _as_float32(builder, column, example), place)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp, example), generate


@_intrinsic
def lanes_to_frames(typing: Any, source: Any, target: Any, stride: Any) -> Any:
    """Transpose 16 values in 16 lanes back to 16 frames, `stride` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, place, step = arguments
        rows = [_load(builder, builder.add(start, start.type(i * _LANE_BYTES)), _LANE_VECTOR, 4) for i in range(LANES)]
        for i, row in enumerate(_transpose(builder, rows)):
            _store(builder, row, builder.add(place, builder.mul(step, step.type(i))))
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp), generate


@_intrinsic
def gather_lanes(typing: Any, table: Any, offsets: Any, weights: Any, n: Any, total: Any) -> Any:
    """Add ``n`` weighted rows of a table, given by their offsets in bytes (int32), to the 16 lanes of a total."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, offset, weight, count, place = arguments
        offset = builder.inttoptr(offset, _INT32.as_pointer())
        weight = builder.inttoptr(weight, _FLOAT.as_pointer())
        kind = ir.FunctionType(_LANE_VECTOR, [_LANE_VECTOR] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        nothing = ir.Constant(_LANE_VECTOR, ir.Undefined)
        running = cgutils.alloca_once(builder, _LANE_VECTOR)
        builder.store(_load(builder, place, _LANE_VECTOR, 4), running)
        with cgutils.for_range(builder, count) as loop:
            distance = builder.zext(builder.load(builder.gep(offset, [loop.index])), rows.type)
            one = builder.insert_element(nothing, builder.load(builder.gep(weight, [loop.index])), _INT32(0))
            everywhere = builder.shuffle_vector(one, nothing, _indices([0] * LANES))
            row = _load(builder, builder.add(rows, distance), _LANE_VECTOR, 4)
            builder.store(builder.call(multiply_add, [everywhere, row, builder.load(running)]), running)
        _store(builder, builder.load(running), place)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp, types.intp, types.uintp), generate


def _load(builder: Any, address: Any, vector: Any, alignment: int) -> Any:
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=alignment)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def _indices(values: Any) -> Any:
    values = list(values)
    return ir.Constant(ir.VectorType(_INT32, len(values)), [_INT32(value) for value in values])


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose a square of vectors by interleaving its halves as often as there are bits in its size."""
    n = len(rows)
    for _ in range(n.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + n // 2], _indices(half + j // 2 + n * (j % 2) for j in range(n)))
            for i in range(n // 2)
            for half in (0, n // 2)
        ]
    return rows


def _as_float32(builder: Any, vector: Any, kind: Any) -> Any:
    if isinstance(kind, types.Float):
        return vector if kind.bitwidth == 32 else builder.fptrunc(vector, _LANE_VECTOR)
    return builder.sitofp(vector, _LANE_VECTOR) if kind.signed else builder.uitofp(vector, _LANE_VECTOR)

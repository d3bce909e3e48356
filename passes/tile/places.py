"""What rules share: places that data decides, kept inside their buffer, and element types.

A place outside an axis is clamped to the nearest one inside, whatever the data says: generated
code reads and writes nothing outside its buffers.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType, f32, f64, i64
from tapeout.ir.expr import ZERO, Expr, ExprLike, as_expr
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import lane_axis, tile_of
from tapeout.ir.types import spec

Index = tuple[Expr, ...]
Pairs = tuple[tuple[Expr, Expr], ...]
Shape = tuple[int, ...]


class NotPullable(Exception):
    """The value cannot be computed at arbitrary indices; it has to be a kernel's own root."""


def lanes_within(pair: tuple[Expr, Expr], shape: Sequence[int]) -> bool:
    """Whether a bound speaks only of lanes that the tile has; others cannot mask it."""
    axes = {a for e in pair for s in e.symbols() if (a := lane_axis(s)) is not None}
    return all(shape[a] > 1 for a in axes)


def shape_of(index: Sequence[Expr], shape: Shape) -> Shape:
    """The lanes of ``shape`` that an index depends on; the others have size 1."""
    used = {a for e in index for s in e.symbols() if (a := lane_axis(s)) is not None}
    return tuple(n if a in used else 1 for a, n in enumerate(shape))


def broadcast_index(value: SSAValue, index: Index) -> Index:
    """An index of the broadcast result as an index of one operand."""
    dims = spec(value).dims
    tail = index[len(index) - len(dims) :]
    return tuple(ZERO if d == 1 else i for d, i in zip(dims, tail, strict=True))


def number(b: TileBuilder, value: ExprLike, shape: Shape = (1, 1)) -> SSAValue:
    """An expression as an i64 tile over the lanes that it depends on."""
    expr = as_expr(value)
    return b.index(expr, shape_of([expr], shape))


def clamped(b: TileBuilder, at: SSAValue, size: ExprLike) -> SSAValue:
    """An i64 tile of places limited to ``[0, size)``."""
    return b.map("max", b.map("min", at, number(b, as_expr(size) - 1)), number(b, ZERO))


def wrapped(b: TileBuilder, at: SSAValue, size: ExprLike) -> SSAValue:
    """A tile of indices, negative ones counted from the end, as places in ``[0, size)``."""
    at = b.convert(at, i64)
    turned = b.map("add", at, number(b, size))
    at = b.map("where", b.map("lt", at, number(b, ZERO)), turned, at)
    return clamped(b, at, size)


def within(b: TileBuilder, at: SSAValue, size: ExprLike) -> SSAValue:
    """Where an i64 tile lies in ``[0, size)``, as bools."""
    low = b.map("ge", at, number(b, ZERO))
    return b.map("and", low, b.map("lt", at, number(b, size)))


def real(b: TileBuilder, value: ExprLike, shape: Shape = (1, 1)) -> SSAValue:
    """An expression as an f64 tile, exact for every size below 2^53."""
    return b.convert(number(b, value, shape), f64)


def literal(b: TileBuilder, value: float, like: SSAValue) -> SSAValue:
    """A constant in the element type of another tile."""
    return b.full(value, (1,) * len(tile_of(like).shape), tile_of(like).dtype)


def accumulator(dtype: DType) -> DType:
    """The type that sums of products of ``dtype`` are kept in: f32 for narrow floats."""
    return f32 if dtype.is_float and dtype.bits < 32 else dtype

"""Operators that order elements, or find the place of some among others."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean, f32, i64, u8
from tapeout.ir.expr import ExprLike, as_expr
from tapeout.ir.ops.reduce import ArgReduceOp, ReduceOp
from tapeout.ir.ops.sort import TopKOp
from tapeout.ir.types import spec


@rule("aten.topk")
def top_k(
    b: Builder,
    call: Call,
    x: SSAValue,
    k: Any,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
) -> tuple[SSAValue, ...]:
    """The ``k`` greatest, or least, along an axis and where they stand."""
    count = call.output.dims[axis_of(x, dim)] if spec(x).rank else 1
    return _ordered(b, x, dim, count, largest)


@rule("aten.sort")
def sort(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: int = -1,
    descending: bool = False,
    *,
    stable: bool = False,
) -> tuple[SSAValue, ...]:
    """In order along an axis, and where each stood; equals keep their order."""
    return _ordered(b, x, dim, spec(x).dims[axis_of(x, dim)] if spec(x).rank else 1, descending)


@rule("aten.kthvalue")
def kth_value(
    b: Builder, call: Call, x: SSAValue, k: ExprLike, dim: int = -1, keepdim: bool = False
) -> tuple[SSAValue, ...]:
    """The ``k``-th least along an axis and where it stands."""
    found = _ordered(b, x, dim, k, False)
    if spec(x).rank:
        found = tuple(b.part(v, axis_of(x, dim), k - 1, 1) for v in found)
    return tuple(b.reshape(v, s.dims) for v, s in zip(found, call.outputs, strict=True))


@rule("aten.median")
def median(
    b: Builder, call: Call, x: SSAValue, dim: int | None = None, keepdim: bool = False
) -> SSAValue | tuple[SSAValue, ...]:
    """The lower of those in the middle, of all or along an axis; NaN where there is one."""
    line = b.reshape(x, (spec(x).size,)) if dim is None or not spec(x).rank else x
    axis = axis_of(line, dim or 0)
    count = (spec(line).dims[axis] + 1) // 2
    found = [b.part(v, axis, count - 1, 1) for v in _ordered(b, line, axis, count, False)]
    if spec(x).dtype.is_float:
        lost = b.map("is_nan", line)
        first = b.op(ArgReduceOp, b.convert(lost, u8), fn="max", axis=axis, keepdims=True)
        some = b.reduce("any", lost, (axis,))
        others = (b.like(float("nan"), line), first)
        found = [b.map("where", some, nan, v) for nan, v in zip(others, found, strict=True)]
    made = tuple(b.reshape(v, s.dims) for v, s in zip(found, call.outputs, strict=False))
    return made if dim is not None else made[0]


def _ordered(
    b: Builder, x: SSAValue, dim: int, count: ExprLike, largest: bool
) -> tuple[SSAValue, ...]:
    if not spec(x).rank:
        return x, b.constant(0, i64)
    numbers = b.convert(x, u8) if spec(x).dtype is boolean else x
    axis = axis_of(x, dim)
    y, places = b.many(TopKOp, numbers, k=(as_expr(count),), axis=axis, largest=largest)
    return b.convert(y, spec(x).dtype), places


@rule("aten.bucketize")
def bucketize(
    b: Builder,
    call: Call,
    x: Argument,
    bounds: SSAValue,
    *,
    out_int32: bool = False,
    right: bool = False,
) -> SSAValue:
    """How many bounds lie below each element; with ``right``, or are equal to it."""
    return search_sorted(b, call, bounds, x, right=right)


@rule("aten.searchsorted")
def search_sorted(
    b: Builder,
    call: Call,
    line: SSAValue,
    x: Argument,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
) -> SSAValue:
    """As above; a line of bounds for all elements, or one for each row of them."""
    dtype = spec(line).dtype
    wide = f32 if isinstance(x, float) and not dtype.is_float else dtype
    values = x if isinstance(x, SSAValue) else b.operand(x, wide)
    if spec(values).dtype is not dtype:
        call.refuse("elements and bounds of two types have no support")
    last = spec(line).dims[-1:]
    lines = line if spec(line).rank == 1 else b.reshape(line, (*spec(line).dims[:-1], 1, *last))
    beyond = "gt" if right or side == "right" else "ge"
    # Not the opposite comparison: NaN comes behind all bounds.
    passed = b.map("not", b.map(beyond, lines, b.reshape(values, (*spec(values).dims, 1))))
    return b.convert(b.op(ReduceOp, b.convert(passed, i64), fn="sum", axes=(-1,)), call.dtype)


@rule("aten.histc")
def histogram(
    b: Builder,
    call: Call,
    x: SSAValue,
    bins: int = 100,
    low: float = 0,
    high: float = 0,
) -> SSAValue:
    """How many elements fall into each of ``bins`` equal parts of ``[low, high]``."""
    if low == high:
        call.refuse("a range that data decides has no support", fix="give min and max")
    flat = b.widened(b.reshape(x, (spec(x).size,)))
    flat = flat if spec(flat).dtype.is_float else b.convert(flat, f32)
    part = b.map("div", b.map("sub", flat, b.like(low, flat)), b.like(high - low, flat))
    place = b.convert(b.map("mul", part, b.like(bins, flat)), i64)
    place = b.map("min", place, b.constant(bins - 1, i64))
    inside = b.map(
        "and", b.map("ge", flat, b.like(low, flat)), b.map("le", flat, b.like(high, flat))
    )
    here = b.map("and", b.map("eq", place, b.iota((bins, 1), 0)), inside)
    return b.convert(b.op(ReduceOp, b.convert(here, i64), fn="sum", axes=(1,)), call.dtype)

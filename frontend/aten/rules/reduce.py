"""Operators that combine along axes, running sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.frontend.aten.rules.pointwise import binary, truth
from tapeout.ir.dtypes import boolean, i64, u8
from tapeout.ir.ops.reduce import ArgReduceOp, CumulativeOp, ReduceOp
from tapeout.ir.types import spec

Axes = Sequence[int] | int | None


@rule("aten.sum", "aten.prod", "aten.amax", "aten.amin", "aten.any", "aten.all")
def reduce(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> SSAValue:
    """Sum, product, extreme or truth over axes; none given: over all."""
    fn = call.operator.removeprefix("a") if call.operator in ("amax", "amin") else call.operator
    value = truth(b, x) if fn in ("any", "all") else b.convert(x, call.dtype)
    return _reduced(b, fn, value, axes_of(x, dim), keepdim)


@rule("aten.max", "aten.min")
def extreme(
    b: Builder, call: Call, x: SSAValue, dim: SSAValue | int | None = None, keepdim: bool = False
) -> SSAValue | tuple[SSAValue, ...]:
    """The extreme of all, of two tensors, or along an axis with where it stands."""
    if isinstance(dim, SSAValue):
        return binary(b, call, x, dim)
    value = _reduced(b, call.operator, x, axes_of(x, dim), keepdim)
    if dim is None:
        return value
    return value, _arg(b, call.operator, x, axis_of(x, dim), keepdim)


@rule("aten.mean")
def mean(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> SSAValue:
    """The mean over axes, summed in f32 where the type is narrower."""
    y = b.mean(b.widened(b.convert(x, call.dtype)), axes_of(x, dim))
    return b.reshape(b.convert(y, call.dtype), call.output.dims)


@rule("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def variance(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: Axes = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    unbiased: bool = True,
) -> SSAValue | tuple[SSAValue, SSAValue]:
    """Squared distance to the mean over ``n - correction``, or its root."""
    axes, wide = axes_of(x, dim), b.widened(x)
    less = float(correction if correction is not None else unbiased)
    middle = b.mean(wide, axes)
    far = b.map("sub", wide, middle)
    total = b.reduce("sum", b.map("mul", far, far), axes)
    count = spec(x).with_dims(spec(x).dims[a] for a in axes).size
    by = b.map("sub", b.size(count, spec(wide).dtype), b.like(less, wide))
    y = b.map("div", total, b.map("max", by, b.like(0, wide)))
    y = b.map("sqrt", y) if call.operator.startswith("std") else y
    y = b.reshape(b.convert(y, call.dtype), call.output.dims)
    if not call.operator.endswith("mean"):
        return y
    return y, b.reshape(b.convert(middle, call.dtype), call.output.dims)


@rule("aten.argmax", "aten.argmin")
def arg_reduce(
    b: Builder, call: Call, x: SSAValue, dim: int | None = None, keepdim: bool = False
) -> SSAValue:
    """Where the extreme stands; the first of equals."""
    fn = call.operator.removeprefix("arg")
    if dim is None:
        flat = b.reshape(x, (spec(x).size,))
        return b.reshape(_arg(b, fn, flat, 0, False), call.output.dims)
    return _arg(b, fn, x, axis_of(x, dim), keepdim)


@rule("aten.cumsum", "aten.cumprod")
def cumulative(b: Builder, call: Call, x: SSAValue, dim: int, *, dtype: Any = None) -> SSAValue:
    """Running sum or product."""
    fn = call.operator.removeprefix("cum")
    if not spec(x).rank:
        return b.convert(x, call.dtype)
    return b.op(CumulativeOp, b.convert(x, call.dtype), fn=fn, axis=axis_of(x, dim))


def axes_of(x: SSAValue, dim: Axes) -> tuple[int, ...]:
    """Axes from the front; all where none is named."""
    given = [dim] if isinstance(dim, int) else list(dim or range(spec(x).rank))
    return tuple(sorted(axis_of(x, d) for d in given)) if spec(x).rank else ()


def _reduced(b: Builder, fn: str, x: SSAValue, axes: tuple[int, ...], keepdim: bool) -> SSAValue:
    """Of bools the greatest is or, the least and, and so is the product."""
    if not axes:
        return x
    if spec(x).dtype is boolean:
        fn = {"max": "any", "min": "all", "prod": "all"}.get(fn, fn)
    return b.op(ReduceOp, x, fn=fn, axes=axes, keepdims=bool(keepdim))


def _arg(b: Builder, fn: str, x: SSAValue, axis: int, keepdim: bool) -> SSAValue:
    if not spec(x).rank:
        return b.constant(0, i64)
    x = b.convert(x, u8) if spec(x).dtype is boolean else x
    return b.op(ArgReduceOp, x, fn=fn, axis=axis, keepdims=bool(keepdim))

"""Tensors out of nothing: constants, ranges, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import as_expr
from tapeout.ir.types import spec


@rule("aten.full", "aten.new_full")
def full(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """One value everywhere; torch says the shape."""
    return _filled(b, call, given[-1])


@rule("aten.full_like", "aten.fill")
def full_like(
    b: Builder, call: Call, x: SSAValue, value: Argument, *, dtype: Any = None
) -> SSAValue:
    """One value everywhere, in the shape of ``x``."""
    return _filled(b, call, value)


@rule("aten.zeros", "aten.zeros_like", "aten.new_zeros", "aten.empty", "aten.empty_like")
def zeros(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """Zeros; also what may be anything."""
    return _filled(b, call, 0)


@rule("aten.empty_permuted", "aten.new_empty", "aten.empty_strided")
def anything(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """What may be anything."""
    return _filled(b, call, 0)


@rule("aten.ones", "aten.ones_like", "aten.new_ones")
def ones(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """Ones."""
    return _filled(b, call, 1)


@rule("aten.scalar_tensor")
def scalar_tensor(b: Builder, call: Call, value: Argument, *, dtype: Any = None) -> SSAValue:
    """A number as a tensor of rank 0."""
    return b.operand(value, call.dtype)


def _filled(b: Builder, call: Call, value: Argument) -> SSAValue:
    one = b.operand(value, call.dtype)
    return b.expand(one, call.output.dims) if call.output.rank else b.reshape(one, ())


@rule("aten.arange")
def arange(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """``start + i * step``; torch says how many."""
    start: Argument = 0 if len(given) < 2 else given[0]
    step: Argument = 1 if len(given) < 3 else given[2]
    places = b.iota(call.output.dims, 0, call.dtype)
    if step != 1:
        places = b.map("mul", places, b.operand(step, call.dtype))
    return places if start == 0 else b.map("add", places, b.operand(start, call.dtype))


@rule("aten.eye")
def eye(b: Builder, call: Call, *given: Any, dtype: Any = None) -> SSAValue:
    """Ones on the diagonal."""
    rows, columns = (b.iota(call.output.dims, axis) for axis in (0, 1))
    return b.convert(b.map("eq", rows, columns), call.dtype)


@rule("aten.tril", "aten.triu")
def triangle(b: Builder, call: Call, x: SSAValue, diagonal: int = 0) -> SSAValue:
    """The triangle below, or above, a diagonal; zeros elsewhere."""
    square = spec(x).dims[-2:]
    rows, columns = b.iota(square, 0), b.iota(square, 1)
    far = b.map("add", rows, b.constant(diagonal, spec(rows).dtype))
    inside = b.map("le" if call.operator == "tril" else "ge", columns, far)
    if spec(x).dtype is boolean:
        return b.map("and", x, inside)
    return b.map("where", inside, x, b.like(0, x))


@rule("aten.linspace")
def linspace(
    b: Builder, call: Call, start: float, end: float, steps: Any, *, dtype: Any = None
) -> SSAValue:
    """``steps`` numbers from ``start`` to ``end``."""
    count = as_expr(steps).constant
    if count is None or isinstance(start, SSAValue) or isinstance(end, SSAValue):
        call.refuse("its ends and the number of steps must be numbers")
    if call.dtype.is_integer:
        start, end = int(start), int(end)
    # From both ends to the middle, as torch does: a sum from one end may round below an integer.
    at, step = np.arange(count), (end - start) / max(count - 1, 1)
    values = np.where(at < count // 2, start + step * at, end - step * (count - 1 - at))
    return b.literal((values if count != 1 else np.array([start])).astype(call.dtype.numpy))

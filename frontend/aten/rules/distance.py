"""Norms of vectors, and distances between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.frontend.aten.rules.reduce import Axes, axes_of
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.types import spec


@rule("aten.linalg_vector_norm")
def vector_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    order: float = 2,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> SSAValue:
    """``sum(|x| ** order) ** (1 / order)`` over axes."""
    y = _norm(b, b.convert(x, call.dtype), float(order), axes_of(x, dim))
    return b.reshape(y, call.output.dims)


@rule("aten.dist")
def distance(b: Builder, call: Call, x: SSAValue, y: SSAValue, order: float = 2) -> SSAValue:
    """The norm of the difference of two tensors."""
    far = b.map("sub", b.convert(x, call.dtype), b.convert(y, call.dtype))
    return b.reshape(_norm(b, far, float(order), axes_of(far, None)), ())


@rule("aten._cdist_forward")
def distances(
    b: Builder, call: Call, x: SSAValue, y: SSAValue, order: float, mode: int | None
) -> SSAValue:
    """From each row of ``x [*, P, M]`` to each of ``y [*, R, M]``."""
    *xs, rows, size = spec(x).dims
    *ys, columns, _ = spec(y).dims
    far = b.map("sub", b.reshape(x, (*xs, rows, 1, size)), b.reshape(y, (*ys, 1, columns, size)))
    return b.reshape(_norm(b, far, float(order), (spec(far).rank - 1,)), call.output.dims)


@rule("aten._pdist_forward")
def own_distances(b: Builder, call: Call, x: SSAValue, order: float = 2) -> SSAValue:
    """From each row to each later one."""
    rows = spec(x).dims[0].constant
    if rows is None:
        call.refuse("the number of rows must be known", ("shape", spec(x).dims))
    pairs = [b.op(GatherOp, x, b.literal(at), axis=0) for at in np.triu_indices(rows, 1)]
    return b.reshape(_norm(b, b.map("sub", *pairs), float(order), (1,)), call.output.dims)


def _norm(b: Builder, x: SSAValue, order: float, axes: Sequence[int]) -> SSAValue:
    """Axes stay with size 1. Of no elements it is 0, as a sum."""
    size = b.map("abs", b.widened(x))
    if order == 0:
        ones = b.convert(b.map("ne", size, b.like(0, size)), spec(size).dtype)
        y = b.reduce("sum", ones, axes)
    elif math.isinf(order):
        y = b.reduce("max" if order > 0 else "min", size, axes)
        y = b.map("max", y, b.like(0, y)) if order > 0 else y
    elif order == 1:
        y = b.reduce("sum", size, axes)
    elif order == 2:
        y = b.map("sqrt", b.reduce("sum", b.map("mul", size, size), axes))
    else:
        total = b.reduce("sum", b.map("pow", size, b.like(order, size)), axes)
        y = b.map("pow", total, b.like(1 / order, total))
    return b.convert(y, spec(x).dtype)

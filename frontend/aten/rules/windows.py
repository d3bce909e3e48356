"""Pools, and sampling between places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils import _pytree as pytree
from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder, each
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.index import GatherElementsOp, GatherOp
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
from tapeout.ir.ops.reduce import ArgReduceOp
from tapeout.ir.ops.resample import GridSampleOp, ResizeOp
from tapeout.ir.ops.views import PadOp
from tapeout.ir.types import spec

Ints = Sequence[int] | int


@rule("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d")
def max_pool(
    b: Builder,
    call: Call,
    x: SSAValue,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> SSAValue:
    """The greatest of each window; torch says how many windows there are."""
    n = int(call.operator[-2])
    y = b.op(
        PoolOp,
        _batched(b, x, n),
        fn="max",
        kernel=each(kernel, n),
        strides=each(stride or kernel, n),
        pads=each(padding, n) * 2,
        dilations=each(dilation, n),
        sizes=call.output.dims[-n:],
    )
    return b.reshape(y, call.output.dims)


@rule("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices")
def max_pool_with_indices(
    b: Builder,
    call: Call,
    x: SSAValue,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> tuple[SSAValue, SSAValue]:
    """The greatest of each window, and where in its channel it stands."""
    n = 2 if "2d" in call.operator else 3
    dims = call.output.dims
    y, places = b.many(
        MaxPoolIndicesOp,
        _batched(b, x, n),
        kernel=each(kernel, n),
        strides=each(stride or kernel, n),
        pads=each(padding, n) * 2,
        dilations=each(dilation, n),
        sizes=dims[-n:],
    )
    channel = spec(x).with_dims(spec(x).dims[-n:]).size
    inside = b.map("floor_mod", places, b.size(channel, spec(places).dtype))
    return b.reshape(y, dims), b.reshape(inside, dims)


@rule("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def average_pool(
    b: Builder,
    call: Call,
    x: SSAValue,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SSAValue:
    """The mean of each window; zeros of the padding count, what lies beyond it does not."""
    n = int(call.operator[-2])
    pads, given = each(padding, n), _batched(b, x, n)
    if count_include_pad and any(pads):
        around = tuple(as_expr(p) for p in (0, 0, *pads))
        given, pads = b.op(PadOp, given, None, low=around, high=around), (0,) * n
    y = b.op(
        PoolOp,
        given,
        fn="mean" if divisor_override is None else "sum",
        kernel=each(kernel, n),
        strides=each(stride or kernel, n),
        pads=pads * 2,
        dilations=(1,) * n,
        sizes=call.output.dims[-n:],
    )
    y = y if divisor_override is None else b.map("div", y, b.like(divisor_override, y))
    return b.reshape(y, call.output.dims)


@rule(
    *("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d"),
    *("aten.adaptive_avg_pool3d", "aten._adaptive_avg_pool3d"),
)
def adaptive_average(b: Builder, call: Call, x: SSAValue, sizes: Ints) -> SSAValue:
    """Means of as many parts of each axis as the result has places; parts may share an element."""
    n = int(call.operator[-2])
    rank, wanted, have = spec(x).rank, call.output.dims[-n:], spec(x).dims[-n:]
    if all(w == as_expr(1) for w in wanted):
        return b.reshape(b.mean(x, range(rank - n, rank)), call.output.dims)
    parts = [_parts(call, h, w) for h, w in zip(have, wanted, strict=True)]
    if not any(as_expr(h % w).constant for h, w in zip(have, wanted, strict=True)):
        kernel = tuple(len(axis[0]) for axis in parts)
        whole = {"pads": (0,) * (2 * n), "dilations": (1,) * n, "sizes": wanted}
        y = b.op(PoolOp, _batched(b, x, n), fn="mean", kernel=kernel, strides=kernel, **whole)
        return b.reshape(y, call.output.dims)
    y = b.widened(x)
    for axis, ranges in enumerate(parts, rank - n):
        last = [a for a in range(rank) if a != axis] + [axis]
        means = np.zeros((len(ranges), spec(x).dims[axis].constant or 0), spec(y).dtype.numpy)
        for row, part in enumerate(ranges):
            means[row, part.start : part.stop] = 1 / len(part)
        product = b.matmul(b.transpose(y, last), b.literal(means), transpose_b=True)
        y = b.transpose(product, [last.index(a) for a in range(rank)])
    return b.convert(y, call.dtype)


@rule("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.adaptive_max_pool3d")
def adaptive_max(b: Builder, call: Call, x: SSAValue, sizes: Ints) -> tuple[SSAValue, SSAValue]:
    """The greatest of such parts, and where in its channel it stands."""
    n, dims = int(call.operator[-2]), spec(x).dims
    wanted, have = call.output.dims[-n:], dims[-n:]
    parts = [_parts(call, h, w) for h, w in zip(have, wanted, strict=True)]
    plane = spec(x).with_dims(have).size
    places = b.reshape(b.iota((plane,), 0), have)
    for at, ranges in enumerate(parts):
        # Shorter parts name their last element again, which no maximum minds.
        longest = max(map(len, ranges))
        taps = np.array([[min(p.start + k, p.stop - 1) for k in range(longest)] for p in ranges])
        places = b.op(GatherOp, places, b.literal(taps), axis=2 * at)
    windows = b.transpose(places, [*range(0, 2 * n, 2), *range(1, 2 * n, 2)])
    count = spec(windows).with_dims(spec(windows).dims[n:]).size
    windows = b.reshape(windows, (*wanted, count))
    flat = b.reshape(x, (*dims[:-n], plane))
    values = b.op(GatherOp, flat, windows, axis=len(dims) - n)
    best = b.op(ArgReduceOp, values, fn="max", axis=-1, keepdims=True)
    y = b.op(GatherElementsOp, values, best, axis=-1)
    inside = b.op(GatherElementsOp, b.expand(windows, spec(values).dims), best, axis=-1)
    return b.reshape(y, call.output.dims), b.reshape(inside, call.output.dims)


def _parts(call: Call, have: Expr, want: Expr) -> list[range]:
    """The places of each part of an axis: ``floor(i * have / want)`` to ``ceil`` of the next."""
    size, count = have.constant, want.constant
    if size is None or count is None:
        call.refuse(
            "the sizes of an axis in parts must be numbers",
            ("axis", have),
            ("parts", want),
            fix="export with that axis fixed, or pool to a size of 1",
        )
    return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


@rule("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_nearest3d")
def nearest(b: Builder, call: Call, x: SSAValue, size: object, *factors: object) -> SSAValue:
    """The element at ``floor(place * size of x / size)``."""
    scales = _scales(x, factors)
    attrs = {"mode": "nearest", "coordinate": "asymmetric", "nearest": "floor"}
    return b.op(ResizeOp, x, sizes=call.output.dims, scales=scales, **attrs)


@rule("aten.upsample_linear1d", "aten.upsample_bilinear2d", "aten.upsample_trilinear3d")
def linear(
    b: Builder, call: Call, x: SSAValue, size: object, align_corners: bool, *factors: object
) -> SSAValue:
    """Between the neighbours of a place."""
    return _interpolated(b, call, x, "linear", align_corners, factors)


@rule("aten.upsample_bicubic2d")
def bicubic(
    b: Builder, call: Call, x: SSAValue, size: object, align_corners: bool, *factors: object
) -> SSAValue:
    """By the cubic through four neighbours, with a = -0.75."""
    return _interpolated(b, call, x, "cubic", align_corners, factors)


@rule("aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa")
def antialiased(
    b: Builder, call: Call, x: SSAValue, size: object, align_corners: bool, *factors: object
) -> SSAValue:
    """As above with a filter as wide as the shrinking; its cubic has a = -0.5."""
    if align_corners:
        call.refuse("corners that are aligned have no support with a filter")
    mode = "cubic" if "cubic" in call.operator else "linear"
    filtered: dict[str, Any] = {"antialias": True, "exclude_outside": True, "cubic_a": -0.5}
    return _interpolated(b, call, x, mode, align_corners, factors, **filtered)


def _interpolated(
    b: Builder,
    call: Call,
    x: SSAValue,
    mode: str,
    align_corners: bool,
    factors: Sequence[object],
    **attrs: Any,
) -> SSAValue:
    """Corners that are aligned leave nothing for a scale to say."""
    attrs["coordinate"] = "align_corners" if align_corners else "half_pixel"
    scales = None if align_corners else _scales(x, factors)
    return b.op(ResizeOp, x, sizes=call.output.dims, scales=scales, mode=mode, **attrs)


def _scales(x: SSAValue, factors: Sequence[object]) -> tuple[float, ...] | None:
    """The scales that torch was given, one by one or as a list; without them sizes decide."""
    given = [float(f) for f in pytree.tree_leaves(list(factors)) if isinstance(f, int | float)]
    return (1.0, 1.0, *given) if len(given) == spec(x).rank - 2 else None


@rule("aten.grid_sampler_2d", "aten.grid_sampler_3d", "aten.grid_sampler")
def grid_sample(
    b: Builder,
    call: Call,
    x: SSAValue,
    grid: SSAValue,
    mode: int,
    padding: int,
    align_corners: bool,
) -> SSAValue:
    """``x`` at the places of a grid with coordinates in ``[-1, 1]``."""
    return b.op(
        GridSampleOp,
        x,
        grid,
        mode=("linear", "nearest", "cubic")[mode],
        padding=("zeros", "border", "reflection")[padding],
        align_corners=align_corners,
    )


def _batched(b: Builder, x: SSAValue, n: int) -> SSAValue:
    return x if spec(x).rank == n + 2 else b.reshape(x, (1, *spec(x).dims))

"""Pools, and sampling between places."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
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
        kernel=_each(kernel, n),
        strides=_each(stride or kernel, n),
        pads=_each(padding, n) * 2,
        dilations=_each(dilation, n),
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
        kernel=_each(kernel, n),
        strides=_each(stride or kernel, n),
        pads=_each(padding, n) * 2,
        dilations=_each(dilation, n),
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
    if divisor_override is not None:
        call.refuse("a divisor of its own has no support", ("divisor", divisor_override))
    n = int(call.operator[-2])
    pads, given = _each(padding, n), _batched(b, x, n)
    if count_include_pad and any(pads):
        around = tuple(as_expr(p) for p in (0, 0, *pads))
        given, pads = b.op(PadOp, given, None, low=around, high=around), (0,) * n
    y = b.op(
        PoolOp,
        given,
        fn="mean",
        kernel=_each(kernel, n),
        strides=_each(stride or kernel, n),
        pads=pads * 2,
        dilations=(1,) * n,
        sizes=call.output.dims[-n:],
    )
    return b.reshape(y, call.output.dims)


@rule(
    *("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d"),
    "aten._adaptive_avg_pool3d",
)
def adaptive_pool(b: Builder, call: Call, x: SSAValue, sizes: Ints) -> SSAValue:
    """Means of as many equal parts of each axis as the result has places."""
    n = int(call.operator[-2])
    wanted, have = call.output.dims[-n:], spec(x).dims[-n:]
    if all(w == as_expr(1) for w in wanted):
        rank = spec(x).rank
        return b.reshape(b.mean(x, range(rank - n, rank)), call.output.dims)
    kernel = tuple(_part(call, h, w) for h, w in zip(have, wanted, strict=True))
    y = b.op(
        PoolOp,
        _batched(b, x, n),
        fn="mean",
        kernel=kernel,
        strides=kernel,
        pads=(0,) * (2 * n),
        dilations=(1,) * n,
        sizes=wanted,
    )
    return b.reshape(y, call.output.dims)


def _part(call: Call, have: Expr, want: Expr) -> int:
    """The length of one part; E0402 where parts differ."""
    size, count = have.constant, want.constant
    if size is None or not count or size % count:
        call.refuse(
            "parts of different sizes have no support",
            ("axis", have),
            ("parts", want),
            fix="choose a size that divides the axis, or 1",
        )
    return size // count


@rule("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_nearest3d")
def nearest(b: Builder, call: Call, x: SSAValue, *given: object) -> SSAValue:
    """The element at ``floor(place * size of x / size)``."""
    return _resized(b, call, x, given, mode="nearest", coordinate="asymmetric", nearest="floor")


@rule("aten.upsample_linear1d", "aten.upsample_bilinear2d", "aten.upsample_trilinear3d")
def linear(
    b: Builder, call: Call, x: SSAValue, size: object, align_corners: bool, *given: object
) -> SSAValue:
    """Between the neighbours of a place."""
    coordinate = "align_corners" if align_corners else "half_pixel"
    return _resized(b, call, x, (size, *given), mode="linear", coordinate=coordinate)


@rule("aten.upsample_bicubic2d")
def bicubic(
    b: Builder, call: Call, x: SSAValue, size: object, align_corners: bool, *given: object
) -> SSAValue:
    """By the cubic through four neighbours, with a = -0.75."""
    coordinate = "align_corners" if align_corners else "half_pixel"
    return _resized(b, call, x, (size, *given), mode="cubic", coordinate=coordinate)


def _resized(
    b: Builder, call: Call, x: SSAValue, given: Sequence[object], **attrs: str
) -> SSAValue:
    """Scales that torch was given decide the places; without them the sizes do."""
    factors = [v for g in given[1:] for v in (g if isinstance(g, list) else [g]) if v is not None]
    numbers = [float(v) for v in factors if isinstance(v, int | float)]
    scales = (1.0, 1.0, *numbers) if len(numbers) == spec(x).rank - 2 else None
    return b.op(ResizeOp, x, sizes=call.output.dims, scales=scales, **attrs)


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


def _each(value: Ints, n: int) -> tuple[int, ...]:
    given = [value] if isinstance(value, int) else list(value)
    return tuple(int(v) for v in (given * n if len(given) == 1 else given))

"""Pools: one value for each window, or for each channel."""

from dataclasses import replace

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import mean, need_rank, one_of, widened
from tapeout.frontend.onnx.rules.windows import (
    Windows,
    explicit_pads,
    kernel_of,
    per_axis,
    spatial_rank,
    windows,
)
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import Expr, as_expr, is_less, product
from tapeout.ir.ops.index import ScatterElementsOp
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
from tapeout.ir.ops.reduce import identity
from tapeout.ir.ops.resample import RoiAlignOp
from tapeout.ir.ops.views import PadOp


@rule("MaxPool")
def max_pool(b: Builder, node: Call, x: Value) -> Value | tuple[Value, Value]:
    """The maximum of each window, and where it lies."""
    over = _windows(node, x)
    if not node.wants(1):
        return pooled(b, "max", x, over)
    if over.pads is None:
        node.refuse("indices with padding that depends on a size", ("padding", over.low))
    y, indices = b.make_many(
        MaxPoolIndicesOp,
        x,
        kernel=over.kernel,
        strides=over.strides,
        pads=over.pads,
        dilations=over.dilations,
        sizes=over.sizes,
        column_major=node.flag("storage_order"),
    )
    return y, indices


@rule("AveragePool")
def average_pool(b: Builder, node: Call, x: Value) -> Value:
    """The mean of each window; padding counts only with ``count_include_pad``.

    Where a window hangs over the padding (``ceil_mode``), what lies beyond never counts.
    """
    over = _windows(node, x)
    if node.flag("count_include_pad") and over.is_padded:
        return pooled(b, "mean", over.pad(b, x), _unpadded(over))
    return pooled(b, "mean", x, over)


@rule("LpPool")
def lp_pool(b: Builder, node: Call, x: Value) -> Value:
    """``(sum |x| ** p) ** (1 / p)`` of each window."""
    over = _windows(node, x)
    p = _order(node)
    wide = widened(b, x)
    total = pooled(b, "sum", _powers(b, wide, p), over)
    return b.convert(_root(b, total, p), x.dtype)


@rule("GlobalAveragePool")
def global_average_pool(b: Builder, node: Call, x: Value) -> Value:
    """The mean of each channel."""
    spatial_rank(node, x)
    return b.convert(mean(b, widened(b, x), range(2, x.rank)), x.dtype)


@rule("GlobalMaxPool")
def global_max_pool(b: Builder, node: Call, x: Value) -> Value:
    """The maximum of each channel."""
    spatial_rank(node, x)
    return b.reduce("max", x, range(2, x.rank), keepdims=True)


@rule("GlobalLpPool")
def global_lp_pool(b: Builder, node: Call, x: Value) -> Value:
    """``(sum |x| ** p) ** (1 / p)`` of each channel."""
    spatial_rank(node, x)
    p = _order(node)
    powers = _powers(b, widened(b, x), p)
    total = b.reduce("sum", powers, range(2, x.rank), keepdims=True)
    return b.convert(_root(b, total, p), x.dtype)


@rule("MaxUnpool")
def max_unpool(
    b: Builder, node: Call, x: Value, indices: Value, shape: Value | None = None
) -> Value:
    """``x`` at the places that ``indices`` name in the pool's input, zero elsewhere.

    ``shape`` may be larger than what was pooled: the rest, at the high ends, is zero.
    """
    n = spatial_rank(node, x)
    over = _unpool_dims(node, x, kernel_of(node, n))
    total = product(over)
    flat = b.make(
        ScatterElementsOp,
        b.filled([total], 0, x.dtype),
        b.reshape(indices, [product(indices.dims)]),
        b.reshape(x, [product(x.dims)]),
        axis=0,
    )
    y = b.reshape(flat, over)
    if shape is None:
        return y
    need_rank(node, "the wanted shape", shape, 1)
    if shape.dims[0] != x.rank:
        node.invalid("the wanted shape has another rank", ("axes", shape.dims[0]))
    wanted = b.dims_from(shape)
    if any(is_less(v, have) for v, have in zip(wanted, over, strict=True)):
        node.invalid("the wanted shape is smaller than the unpooled", ("wanted", wanted))
    high = [want - have for want, have in zip(wanted, over, strict=True)]
    return b.make(PadOp, y, None, low=(as_expr(0),) * x.rank, high=tuple(high))


def _unpool_dims(node: Call, x: Value, kernel: tuple[int, ...]) -> list[Expr]:
    n = len(kernel)
    strides = per_axis(node, "strides", n)
    low, high = explicit_pads(node, n)
    spatial = [(x.dims[2 + i] - 1) * strides[i] + kernel[i] - low[i] - high[i] for i in range(n)]
    return [*x.dims[:2], *spatial]


@rule("RoiAlign")
def roi_align(b: Builder, node: Call, x: Value, rois: Value, batch: Value) -> Value:
    """Regions cut into bins, each sampled bilinearly."""
    newer = node.version >= 16
    frame = one_of(
        node,
        "coordinate_transformation_mode",
        "half_pixel" if newer else "output_half_pixel",
        ("half_pixel", "output_half_pixel"),
    )
    sizes = (node.integer("output_height", 1), node.integer("output_width", 1))
    ratio = node.integer("sampling_ratio")
    if min(sizes) < 1 or ratio < 0:
        node.invalid("bins or samples out of range", ("sizes", sizes), ("sampling_ratio", ratio))
    return b.make(
        RoiAlignOp,
        x,
        rois,
        batch,
        mode=one_of(node, "mode", "avg", ("avg", "max")),
        sizes=sizes,
        sampling_ratio=ratio,
        scale=node.real("spatial_scale", 1.0),
        half_pixel=frame == "half_pixel",
    )


@rule("LRN")
def lrn(b: Builder, node: Call, x: Value) -> Value:
    """``x / (bias + alpha / size * sum) ** beta``, ``sum`` of squares over ``size`` channels."""
    size = node.integer("size")
    if size < 1 or x.rank < 2:
        node.invalid("attribute 'size' or the rank is out of range", ("size", size))
    rows = b.reshape(x, [x.dims[0], 1, x.dims[1], product(x.dims[2:])])
    wide = widened(b, rows)
    over = Windows(
        (size, 1),
        (1, 1),
        (1, 1),
        (as_expr((size - 1) // 2), as_expr(0)),
        (as_expr(size // 2), as_expr(0)),
        wide.dims[2:],
    )
    total = pooled(b, "sum", b.map("mul", wide, wide), over)
    base = b.map("add", b.map("mul", total, node.real("alpha", 1e-4) / size), node.real("bias", 1))
    y = b.map("div", wide, b.map("pow", base, node.real("beta", 0.75)))
    return b.reshape(b.convert(y, x.dtype), x.dims)


def pooled(b: Builder, fn: str, x: Value, over: Windows) -> Value:
    """``nn.pool`` over windows; padding that depends on a size is written out first."""
    if over.pads is not None:
        return _pool(b, fn, x, over, over.pads)
    inner = _unpadded(over)
    none = (0,) * (2 * len(over.kernel))
    if fn == "max":
        lowest = b.scalar(identity("max", x.dtype.numpy), x.dtype)
        return _pool(b, fn, over.pad(b, x, lowest), inner, none)
    total = _pool(b, "sum", over.pad(b, x), inner, none)
    if fn == "sum":
        return total
    ones = over.pad(b, b.filled(x.dims, 1, x.dtype))
    return b.map("div", total, _pool(b, "sum", ones, inner, none))


def _pool(b: Builder, fn: str, x: Value, over: Windows, pads: tuple[int, ...]) -> Value:
    return b.make(
        PoolOp,
        x,
        fn=fn,
        kernel=over.kernel,
        strides=over.strides,
        pads=pads,
        dilations=over.dilations,
        sizes=over.sizes,
    )


def _windows(node: Call, x: Value) -> Windows:
    n = spatial_rank(node, x)
    return windows(node, x.dims[2:], kernel_of(node, n))


def _unpadded(over: Windows) -> Windows:
    zero = (as_expr(0),) * len(over.kernel)
    return replace(over, low=zero, high=zero)


def _order(node: Call) -> int:
    p = int(node.real("p", 2.0))
    if p < 1:
        node.invalid("attribute 'p' is not positive", ("p", p))
    return p


def _powers(b: Builder, x: Value, p: int) -> Value:
    if p == 2:
        return b.map("mul", x, x)
    magnitude = b.map("abs", x)
    return magnitude if p == 1 else b.map("pow", magnitude, p)


def _root(b: Builder, x: Value, p: int) -> Value:
    if p == 1:
        return x
    return b.map("sqrt", x) if p == 2 else b.map("pow", x, 1 / p)

"""Pad and CenterCropPad: sizes that grow, or shrink where a pad is negative."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ZERO, Expr, as_expr, maximum
from tapeout.ir.ops.views import PadOp
from tapeout.ir.shapes import check_axis

MODES = ("constant", "reflect", "edge", "wrap")


@rule("Pad")
def pad_attributes(b: Builder, node: Call, x: Value) -> Value:
    """Up to version 10 the pads and the value are attributes."""
    pads = [as_expr(p) for p in node.integers("pads")]
    value = b.scalar(node.real("value", 0.0), x.dtype)
    return _padded(b, node, x, _halves(node, x, pads, range(x.rank)), value)


@rule("Pad", since=11)
def pad(
    b: Builder,
    node: Call,
    x: Value,
    pads: Value,
    value: Value | None = None,
    axes: Value | None = None,
) -> Value:
    """From version 11 on they are inputs; from 18 on ``axes`` names the padded ones."""
    along = range(x.rank) if axes is None else b.ints(node, axes, "axes")
    along = [check_axis(a, x.rank, "Pad") for a in along]
    fill = None if value is None else b.reshape(value, ())
    known = b.exprs(pads)
    if known is not None:
        return _padded(b, node, x, _halves(node, x, known, along), fill)
    low, high = _halves(node, x, b.dims_from(b.map("max", pads, 0)), along)
    less = _halves(node, x, b.dims_from(b.map("max", b.map("neg", pads), 0)), along)
    return _grown(b, node, _cut(b, x, *less), low, high, fill)


@rule("CenterCropPad")
def center_crop_pad(b: Builder, node: Call, x: Value, shape: Value) -> Value:
    """The middle of ``x`` cut or padded with zeros to ``shape`` along ``axes``."""
    axes = [check_axis(a, x.rank, "CenterCropPad") for a in node.integers("axes", range(x.rank))]
    target = b.dims_from(b.convert(shape, i64))
    low, high, cut_low, cut_high = ([ZERO] * x.rank for _ in range(4))
    for axis, size in zip(axes, target, strict=True):
        more, less = maximum(size - x.dims[axis], 0), maximum(x.dims[axis] - size, 0)
        low[axis], high[axis] = more // 2, more - more // 2
        cut_low[axis], cut_high[axis] = less // 2, less - less // 2
    return _grown(b, node, _cut(b, x, cut_low, cut_high), low, high, None)


def _halves(
    node: Call, x: Value, pads: Sequence[Expr], axes: Sequence[int]
) -> tuple[list[Expr], list[Expr]]:
    """Pads below and above for every axis of ``x``."""
    if len(pads) != 2 * len(axes):
        node.invalid("pads has not two numbers per axis", ("pads", len(pads)))
    low, high = [ZERO] * x.rank, [ZERO] * x.rank
    for i, axis in enumerate(axes):
        low[axis], high[axis] = pads[i], pads[len(axes) + i]
    return low, high


def _padded(
    b: Builder,
    node: Call,
    x: Value,
    pads: tuple[list[Expr], list[Expr]],
    value: Value | None,
) -> Value:
    less_low, less_high = ([maximum(-p, 0) for p in side] for side in pads)
    low, high = ([maximum(p, 0) for p in side] for side in pads)
    return _grown(b, node, _cut(b, x, less_low, less_high), low, high, value)


def _cut(b: Builder, x: Value, low: Sequence[Expr], high: Sequence[Expr]) -> Value:
    sizes = [d - a - c for d, a, c in zip(x.dims, low, high, strict=True)]
    return b.slice(x, low, sizes)


def _grown(
    b: Builder,
    node: Call,
    x: Value,
    low: Sequence[Expr],
    high: Sequence[Expr],
    value: Value | None,
) -> Value:
    mode = node.text("mode", "constant")
    if mode not in MODES:
        node.invalid("mode is unknown", ("mode", mode), ("known", ", ".join(MODES)))
    if all(p == 0 for p in (*low, *high)):
        return x
    fill = value if mode == "constant" else None
    return b.make(PadOp, x, fill, low=tuple(low), high=tuple(high), mode=mode)

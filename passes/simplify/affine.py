"""Scale and shift by constants: gathered, then folded into the weights of products.

A batch norm at inference is ``x * scale + shift`` per channel; after a convolution it costs
nothing once it sits in the weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f64
from tapeout.ir.expr import ONE
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by, only_use, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FoldAffine(Pass):
    """Fold scales and shifts by constants into weights; saves a pass over each activation."""

    name = "fold-affine"

    def apply(self, module: Module) -> None:
        """Gather and fold until nothing moves."""
        drive(module, PATTERNS)


class DivisionByConstant(Pattern[MapOp]):
    """``conv / c = conv * (1 / c)`` and ``y - c = y + (-c)`` on the way into weights."""

    root = MapOp
    fns = frozenset({"div", "sub"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        x, c = op.xs
        array = edit.array(c)
        if array is None or not spec(x).dtype.is_float or not _leads_to_weights(x, edit):
            return None
        if op.fn.data == "sub":
            return edit.map("add", x, edit.constant(-array))
        inverse = _narrowed(1.0 / array.astype(np.float64), array)
        return None if inverse is None else edit.map("mul", x, edit.constant(inverse))


class ScaleOfScale(Pattern[MapOp]):
    """``(x * a) * b = x * (a * b)``; ``(x + a) + b = x + (a + b)``, for constants a and b."""

    root = MapOp
    fns = frozenset({"mul", "add"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = operands_of(op.xs[0], op.fn.data)
        if inner is None or not only_use(op.xs[0]) or not spec(op.y).dtype.is_float:
            return None
        a, b = edit.array(inner[1]), edit.array(op.xs[1])
        if a is None or b is None or edit.array(inner[0]) is not None:
            return None
        combine = np.multiply if op.fn.data == "mul" else np.add
        both = _narrowed(combine(a.astype(np.float64), b.astype(np.float64)), a)
        return None if both is None else edit.map(op.fn.data, inner[0], edit.constant(both))


class ScaleOfShift(Pattern[MapOp]):
    """``(y + a) * b = y * b + a * b`` when ``y`` can take the scale into itself."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = operands_of(op.xs[0], "add")
        if inner is None or not only_use(op.xs[0]) or not _leads_to_weights(inner[0], edit):
            return None
        a, b = edit.array(inner[1]), edit.array(op.xs[1])
        if a is None or b is None or not spec(op.y).dtype.is_float:
            return None
        shift = _narrowed(a.astype(np.float64) * b.astype(np.float64), a)
        if shift is None:
            return None
        return edit.map("add", edit.map("mul", inner[0], op.xs[1]), edit.constant(shift))


class ScaleIntoConv(Pattern[MapOp]):
    """``conv(x, w) * c = conv(x, w * c)`` for one factor per output channel; so for its bias."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        conv = made_by(op.xs[0], ConvOp)
        if conv is None or not only_use(conv.y):
            return None
        weights = _of_its_type(conv.w, conv.y, edit)
        bias = edit.array(conv.bias)
        factors = _per_channel(edit.array(op.xs[1]), _channel_axis(conv), spec(conv.y))
        if weights is None or factors is None or (conv.bias is not None and bias is None):
            return None
        scaled = _scaled(weights, factors.reshape(-1, *[1] * (weights.ndim - 1)))
        shift = None if bias is None else _scaled(bias, factors)
        if scaled is None or (bias is not None and shift is None):
            return None
        new_bias = None if shift is None else edit.constant(shift)
        return edit.add(ConvOp, conv.x, edit.derived(scaled, conv.w), new_bias, **conv.attrs())


class ShiftIntoConv(Pattern[MapOp]):
    """``conv(x, w, b) + c = conv(x, w, b + c)`` for one term per output channel."""

    root = MapOp
    fns = frozenset({"add"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        conv = made_by(op.xs[0], ConvOp)
        if conv is None or not only_use(conv.y):
            return None
        terms = _per_channel(edit.array(op.xs[1]), _channel_axis(conv), spec(conv.y))
        outputs = spec(conv.y).dims[_channel_axis(conv)].constant
        bias = edit.array(conv.bias)
        if terms is None or outputs is None or (conv.bias is not None and bias is None):
            return None
        total = terms.astype(np.float64) + (0 if bias is None else bias.astype(np.float64))
        shift = _narrowed(np.broadcast_to(total, (outputs,)), terms)
        if shift is None:
            return None
        return edit.add(ConvOp, conv.x, conv.w, edit.constant(shift), **conv.attrs())


class ScaleIntoMatmul(Pattern[MapOp]):
    """``(a @ w) * c = a @ (w * c)`` for one factor per column of a constant ``w``."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        product = made_by(op.xs[0], MatmulOp)
        if product is None or not only_use(product.y):
            return None
        weights = _of_its_type(product.b, product.y, edit)
        last = spec(product.y).rank - 1
        factors = _per_channel(edit.array(op.xs[1]), last, spec(product.y))
        if weights is None or factors is None or weights.ndim != 2 or not only_use(product.b):
            return None
        transposed = bool(product.transpose_b.data)
        scaled = _scaled(weights, factors.reshape(-1, 1) if transposed else factors)
        if scaled is None:
            return None
        return edit.add(MatmulOp, product.a, edit.derived(scaled, product.b), **product.attrs())


PATTERNS: tuple[Pattern[MapOp], ...] = (
    *(DivisionByConstant(), ScaleOfScale(), ScaleOfShift()),
    *(ScaleIntoConv(), ShiftIntoConv(), ScaleIntoMatmul()),
)


def _leads_to_weights(value: SSAValue, edit: Edit) -> bool:
    """Whether a scale on ``value`` ends in constants: of a product, or of another scale."""
    if not only_use(value):
        return False
    owner = value.owner
    if isinstance(owner, ConvOp):
        return edit.array(owner.w) is not None
    if isinstance(owner, MatmulOp):
        return edit.array(owner.b) is not None and only_use(owner.b)
    if isinstance(owner, MapOp) and owner.fn.data in ("mul", "add"):
        return edit.array(owner.xs[1]) is not None
    return False


def _of_its_type(weights: SSAValue, result: SSAValue, edit: Edit) -> Array | None:
    """Constant weights; None where scaling them would round to fewer bits than the result has."""
    return edit.array(weights) if spec(weights).dtype is spec(result).dtype else None


def _channel_axis(conv: ConvOp) -> int:
    return spec(conv.y).rank - 1 if conv.channels_last.data else 1


def _per_channel(array: Array | None, axis: int, whole: Spec) -> Array | None:
    """The vector along ``axis`` when ``array`` varies along no other; one element for none."""
    if array is None or not whole.dtype.is_float or array.ndim > whole.rank:
        return None
    shape = (1,) * (whole.rank - array.ndim) + array.shape
    if any(n != 1 and i != axis for i, n in enumerate(shape)):
        return None
    # One number against an axis of unknown size, or an axis that the constant would widen.
    if shape[axis] != 1 and whole.dims[axis] == ONE:
        return None
    return array.reshape(-1)


def _scaled(array: Array, factors: Array) -> Array | None:
    return _narrowed(array.astype(np.float64) * factors.astype(np.float64), array)


def _narrowed(exact: Array, like: Array) -> Array | None:
    """Round to the element type of ``like``; None where finite numbers would leave its range."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(exact).astype(like.dtype)
    if like.dtype == f64.numpy:
        return rounded
    wide = rounded.astype(np.float64)
    return rounded if np.array_equal(np.isfinite(wide), np.isfinite(exact)) else None

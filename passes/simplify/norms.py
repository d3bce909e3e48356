"""Softmax, layer norm and RMS norm put together again from what exporters write out."""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, Expr, product
from tapeout.ir.module import Module
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import DimValuesOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import (
    behind_repeats,
    either_way,
    made_by,
    only_use,
    operands_of,
    plus_number,
    times_number,
)
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


@dataclass(frozen=True)
class RecomposeNorms(Pass):
    """Find softmax, layer norm and RMS norm in their written-out forms.

    Saves the passes over memory between their reductions: one kernel reads a row once.
    """

    name = "recompose-norms"

    def apply(self, module: Module) -> None:
        """Rewrite every whole form, then take scales and biases in."""
        drive(module, PATTERNS)


class Softmax(Pattern[MapOp]):
    """``e / sum(e) = softmax(x)`` with ``e = exp(x - max(x))`` or ``e = exp(x)``.

    Without the maximum the chain overflows where softmax does not; else they are equal.
    """

    root = MapOp
    fns = frozenset({"div", "mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for top, bottom in _quotients(op):
            power = operands_of(top, "exp")
            total = made_by(bottom, ReduceOp)
            if power is None or total is None or total.x is not top:
                continue
            if total.fn.data != "sum" or len(total.axes.data) != 1 or not total.keepdims.data:
                continue
            if not spec(top).dtype.is_float:
                continue
            axis = total.axes.data[0] % spec(top).rank
            return edit.add(SoftmaxOp, _before_shift(power[0], axis), axis=axis)
        return None


def _before_shift(value: SSAValue, axis: int) -> SSAValue:
    """``x`` when ``value`` is ``x - max(x)``, else ``value``."""
    pair = operands_of(value, "sub")
    top = made_by(pair[1], ReduceOp) if pair is not None else None
    if pair is None or top is None or top.x is not pair[0] or top.fn.data != "max":
        return value
    same = [a % spec(top.x).rank for a in top.axes.data] == [axis] and bool(top.keepdims.data)
    return pair[0] if same else value


def _quotients(op: MapOp) -> list[tuple[SSAValue, SSAValue]]:
    """``(a, b)`` for every reading of ``op`` as ``a / b``."""
    if op.fn.data == "div":
        return [(op.xs[0], op.xs[1])]
    found: list[tuple[SSAValue, SSAValue]] = []
    for a, b in either_way(op.xs):
        inner = operands_of(b, "reciprocal")
        if inner is not None:
            found.append((a, inner[0]))
    return found


class LayerNorm(Pattern[MapOp]):
    """``d / sqrt(mean(d * d) + epsilon) = layer_norm(x)`` with ``d = x - mean(x)``."""

    root = MapOp
    fns = frozenset({"div", "mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for top, under in _over_root(op):
            centre = operands_of(top, "sub")
            spread = _mean_square(under, top, edit)
            if centre is None or spread is None:
                continue
            mean = mean_of(centre[1], edit)
            if mean is None or mean[0] is not centre[0] or mean[1] != spread[0]:
                continue
            if spec(centre[0]) == spec(top):
                return edit.add(
                    LayerNormOp, centre[0], None, None, axis=spread[0], epsilon=spread[1]
                )
        return None


class RmsNorm(Pattern[MapOp]):
    """``x / sqrt(mean(x * x) + epsilon) = rms_norm(x)``."""

    root = MapOp
    fns = frozenset({"div", "mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for x, under in _over_root(op):
            found = _mean_square(under, x, edit)
            if found is not None and _is_float(x):
                return edit.add(RmsNormOp, x, None, axis=found[0], epsilon=found[1])
        return None


def _over_root(op: MapOp) -> list[tuple[SSAValue, SSAValue]]:
    """``(a, b)`` for every reading of ``op`` as ``a / sqrt(b)``."""
    if op.fn.data == "div":
        inner = operands_of(op.xs[1], "sqrt")
        return [] if inner is None else [(op.xs[0], inner[0])]
    found: list[tuple[SSAValue, SSAValue]] = []
    for a, b in either_way(op.xs):
        inner = operands_of(b, "rsqrt")
        inverse = operands_of(b, "reciprocal")
        if inner is None and inverse is not None:
            inner = operands_of(inverse[0], "sqrt")
        if inner is not None:
            found.append((a, inner[0]))
    return found


def _mean_square(value: SSAValue, x: SSAValue, edit: Edit) -> tuple[int, float] | None:
    """``(axis, epsilon)`` when ``value`` is ``mean(x * x) + epsilon`` from ``axis`` on."""
    shifted = plus_number(edit, value)
    mean = mean_of(shifted[0], edit) if shifted is not None else None
    if shifted is None or mean is None or not _is_float(x) or shifted[1] < 0:
        return None
    square = operands_of(mean[0], "mul")
    if square is None:
        raised = operands_of(mean[0], "pow")
        two = edit.array(raised[1]) if raised is not None else None
        square = (raised[0], raised[0]) if raised and two is not None and (two == 2).all() else None
    return (mean[1], shifted[1]) if square is not None and square == (x, x) else None


def mean_of(value: SSAValue, edit: Edit) -> tuple[SSAValue, int] | None:
    """``(x, axis)`` when ``value`` is the mean of ``x`` over all axes from ``axis`` on, kept."""
    total, count = _divided(value, edit)
    if total is None or total.fn.data != "sum" or not total.keepdims.data:
        return None
    rank = spec(total.x).rank
    axes = sorted(a % rank for a in total.axes.data)
    if not axes or axes != list(range(axes[0], rank)):
        return None
    size = product(spec(total.x).dims[axes[0] :])
    if isinstance(count, Expr):
        return (total.x, axes[0]) if count == size else None
    known = size.constant
    if known is None or count is None or abs(count * known - 1) > 1e-6:
        return None
    return total.x, axes[0]


def _divided(value: SSAValue, edit: Edit) -> tuple[ReduceOp | None, float | Expr | None]:
    """A sum and what it is multiplied by, or the size expression that divides it."""
    scaled = times_number(edit, value)
    if scaled is not None:
        return made_by(scaled[0], ReduceOp), scaled[1]
    pair = operands_of(value, "div")
    if pair is None:
        total = made_by(value, ReduceOp)
        return total, 1.0
    return made_by(pair[0], ReduceOp), _size_value(pair[1])


def _size_value(value: SSAValue) -> Expr | None:
    """The expression when ``value`` is one size of the graph, converted to a float or not."""
    source = behind_repeats(value)
    converted = made_by(source, ConvertOp)
    sizes = made_by(behind_repeats(converted.x) if converted is not None else source, DimValuesOp)
    if sizes is None:
        return None
    return product(sizes.values.data) if len(sizes.values.data) == 1 else None


def _is_float(value: SSAValue) -> bool:
    return spec(value).dtype.is_float


class ScaleIntoNorm(Pattern[MapOp]):
    """``norm(x) * s`` takes the scale in, when the norm has none and ``s`` lies along its axes."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for y, scale in either_way(op.xs):
            norm = y.owner
            if not isinstance(norm, LayerNormOp | RmsNormOp) or norm.scale is not None:
                continue
            if not only_use(y) or not _lies_along(scale, norm) or spec(op.y) != spec(y):
                continue
            attrs = norm.attrs()
            if isinstance(norm, RmsNormOp):
                return edit.add(RmsNormOp, norm.x, trimmed(scale, norm, edit), **attrs)
            if norm.bias is None:
                return edit.add(LayerNormOp, norm.x, trimmed(scale, norm, edit), None, **attrs)
        return None


class BiasIntoNorm(Pattern[MapOp]):
    """``layer_norm(x) + b`` takes the bias in, when it has none and ``b`` lies along its axes."""

    root = MapOp
    fns = frozenset({"add"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for y, bias in either_way(op.xs):
            norm = made_by(y, LayerNormOp)
            if norm is None or norm.bias is not None or not only_use(y):
                continue
            if _lies_along(bias, norm) and spec(op.y) == spec(y):
                bias = trimmed(bias, norm, edit)
                return edit.add(LayerNormOp, norm.x, norm.scale, bias, **norm.attrs())
        return None


def _lies_along(value: SSAValue, norm: LayerNormOp | RmsNormOp) -> bool:
    """Whether ``value`` is a parameter of the normalised axes only, the same for every row."""
    tail = spec(norm.x).dims[norm.axis.data :]
    return _fits(spec(value).dims, tail) and not isinstance(value.owner, LayerNormOp | RmsNormOp)


def _fits(have: Sequence[Expr], tail: Sequence[Expr]) -> bool:
    extra = max(0, len(have) - len(tail))
    rows, own = have[:extra], have[extra:]
    return all(r == ONE for r in rows) and all(
        a in (ONE, b) for a, b in zip(reversed(own), reversed(tail), strict=False)
    )


def trimmed(value: SSAValue, norm: LayerNormOp | RmsNormOp, edit: Edit) -> SSAValue:
    """``value`` without leading axes of size 1 that the norm's parameters do not have."""
    width = spec(norm.x).rank - norm.axis.data % spec(norm.x).rank
    dims = spec(value).dims
    if len(dims) <= width:
        return value
    array = edit.array(value)
    if array is not None:
        return edit.constant(array.reshape(array.shape[-width:]))
    return edit.add(ReshapeOp, value, shape=dims[-width:])


class NormOfConverted(Pattern[ConvertOp]):
    """``narrow(rms_norm(wide(x))) = rms_norm(x)``; so for layer norm and softmax.

    They compute narrow floats in f32 and round once, which is just what the conversions say.
    """

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        norm = op.x.owner
        if not isinstance(norm, LayerNormOp | RmsNormOp | SoftmaxOp) or not only_use(op.x):
            return None
        wide = made_by(norm.x, ConvertOp)
        if wide is None or spec(wide.x) != spec(op.y) or spec(op.x).dtype.name != "f32":
            return None
        if len(norm.operands) != 1 or op.saturate.data or wide.saturate.data:
            return None
        extra = [None] * (len(norm.arguments()) - 1)
        return edit.add(type(norm), wide.x, *extra, **norm.attrs())


PATTERNS = (
    *(Softmax(), LayerNorm(), RmsNorm(), ScaleIntoNorm(), BiasIntoNorm(), NormOfConverted()),
)

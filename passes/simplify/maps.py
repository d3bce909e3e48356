"""Identities of elementwise functions."""

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import boolean
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.source import DimValuesOp
from tapeout.ir.ops.views import ExpandOp
from tapeout.ir.types import spec
from tapeout.passes.match import either_way, is_number, made_by, number, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement

# Where the second operand is this number, the result is the first.
_NEUTRAL = {
    **dict.fromkeys(("add", "sub"), 0.0),
    **dict.fromkeys(("mul", "div", "pow"), 1.0),
    **{"max": -np.inf, "min": np.inf},
}
_COMMUTATIVE = frozenset({"add", "mul", "min", "max", "and", "or", "xor", "eq", "ne"})


class ConstantLast(Pattern[MapOp]):
    """``f(c, x) = f(x, c)`` for a commutative ``f`` and a fixed ``c``."""

    root = MapOp
    fns = _COMMUTATIVE

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        a, b = op.xs
        if edit.array(a) is None or edit.array(b) is not None:
            return None
        return edit.map(op.fn.data, b, a)


class NeutralOperand(Pattern[MapOp]):
    """``x + 0 = x - 0 = x * 1 = x / 1 = x ** 1 = max(x, -inf) = min(x, inf) = x``.

    ``-0.0 + 0`` is ``0.0``: the sign of a zero is not kept.
    """

    root = MapOp
    fns = frozenset(_NEUTRAL)

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        a, b = op.xs
        return widened(a, op, edit) if number(edit, b) == _NEUTRAL[op.fn.data] else None


def widened(value: SSAValue, op: MapOp, edit: Edit) -> SSAValue:
    """``value`` repeated to the shape of the result, where another operand made that wider."""
    if spec(value) == spec(op.y):
        return value
    return edit.add(ExpandOp, value, shape=spec(op.y).dims)


class LogicalNeutral(Pattern[MapOp]):
    """``x and true = x or false = x xor false = (x == true) = (x != false) = x`` for bool."""

    root = MapOp
    fns = frozenset({"and", "or", "xor", "eq", "ne"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        if spec(op.xs[0]).dtype is not boolean:
            return None
        keep = 1.0 if op.fn.data in ("and", "eq") else 0.0
        for a, b in either_way(op.xs):
            if number(edit, b) == keep:
                return widened(a, op, edit)
        return None


class SameOperand(Pattern[MapOp]):
    """``x and x = x or x = min(x, x) = max(x, x) = x``; ``where(c, x, x) = x``."""

    root = MapOp
    fns = frozenset({"and", "or", "min", "max", "where"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        return op.xs[-1] if op.xs[-1] is op.xs[-2] else None


class FixedWhere(Pattern[MapOp]):
    """``where(true, a, b) = a``; ``where(false, a, b) = b``."""

    root = MapOp
    fns = frozenset({"where"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        condition, a, b = op.xs
        known = number(edit, condition)
        if known is None:
            return None
        return widened(a if known else b, op, edit)


class WhereNot(Pattern[MapOp]):
    """``where(not c, a, b) = where(c, b, a)``."""

    root = MapOp
    fns = frozenset({"where"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        condition, a, b = op.xs
        inner = operands_of(condition, "not")
        return None if inner is None else edit.map("where", inner[0], b, a)


class BooleanWhere(Pattern[MapOp]):
    """``where(c, true, false) = c``; ``where(c, false, true) = not c``."""

    root = MapOp
    fns = frozenset({"where"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        condition, a, b = op.xs
        if spec(a).dtype is not boolean:
            return None
        match number(edit, a), number(edit, b):
            case (1.0, 0.0):
                return condition
            case (0.0, 1.0):
                return edit.map("not", condition)
            case _:
                return None


class Involution(Pattern[MapOp]):
    """``-(-x) = x``; ``not not x = x``."""

    root = MapOp
    fns = frozenset({"neg", "not"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = operands_of(op.xs[0], op.fn.data)
        return None if inner is None else inner[0]


class Idempotent(Pattern[MapOp]):
    """``f(f(x)) = f(x)`` for relu, abs, sign and the roundings."""

    root = MapOp
    fns = frozenset({"relu", "abs", "sign", "floor", "ceil", "trunc", "round"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        return op.xs[0] if operands_of(op.xs[0], op.fn.data) else None


class ReluOfMax(Pattern[MapOp]):
    """``max(x, 0) = relu(x)``: one name for every spelling of a lower clip at zero."""

    root = MapOp
    fns = frozenset({"max"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        x, low = op.xs
        return edit.map("relu", x) if number(edit, low) == 0 else None


class ClipOrder(Pattern[MapOp]):
    """``max(min(x, hi), lo) = min(max(x, lo), hi)`` when ``lo <= hi``."""

    root = MapOp
    fns = frozenset({"max", "relu"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = operands_of(op.xs[0], "min")
        if inner is None:
            return None
        low = 0.0 if op.fn.data == "relu" else number(edit, op.xs[1])
        high = number(edit, inner[1])
        if low is None or high is None or low > high:
            return None
        return edit.map("min", edit.map(op.fn.data, inner[0], *op.xs[1:]), inner[1])


class SmallPower(Pattern[MapOp]):
    """``x ** 2 = x * x``; ``x ** 3 = x * x * x``; ``x ** -1 = 1 / x``, for floats."""

    root = MapOp
    fns = frozenset({"pow"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        x, exponent = op.xs
        if not spec(x).dtype.is_float:
            return None
        match number(edit, exponent):
            case 2.0:
                return edit.map("mul", x, x)
            case 3.0:
                return edit.map("mul", edit.map("mul", x, x), x)
            case -1.0:
                return edit.map("reciprocal", x)
            case _:
                return None


class ReciprocalOfSqrt(Pattern[MapOp]):
    """``1 / sqrt(x) = rsqrt(x)``."""

    root = MapOp
    fns = frozenset({"reciprocal"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = operands_of(op.xs[0], "sqrt")
        return None if inner is None else edit.map("rsqrt", inner[0])


class ReciprocalOfDivision(Pattern[MapOp]):
    """``1 / x = reciprocal(x)`` for floats."""

    root = MapOp
    fns = frozenset({"div"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        one, x = op.xs
        if not spec(x).dtype.is_float or not is_number(edit, one, 1.0):
            return None
        return edit.map("reciprocal", x)


class NegOfSubtraction(Pattern[MapOp]):
    """``0 - x = -x``."""

    root = MapOp
    fns = frozenset({"sub"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        return edit.map("neg", op.xs[1]) if number(edit, op.xs[0]) == 0 else None


class ExactReciprocal(Pattern[MapOp]):
    """``x / c = x * (1 / c)`` when ``c`` is a power of two, so that nothing is rounded."""

    root = MapOp
    fns = frozenset({"div"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        x, divisor = op.xs
        value = number(edit, divisor)
        if value is None or not spec(x).dtype.is_float or abs(np.frexp(value)[0]) != 0.5:
            return None
        if not 2.0**-14 <= abs(value) <= 2.0**14:
            return None
        return edit.map("mul", x, edit.constant(np.asarray(1 / value, spec(x).dtype.numpy)))


class NarrowConstant(Pattern[MapOp]):
    """A fixed operand that is one number everywhere need hold that number only once."""

    root = MapOp

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        xs = [_narrow(x, edit) for x in op.xs]
        if all(new is old for new, old in zip(xs, op.xs, strict=True)):
            return None
        return edit.map(op.fn.data, *xs)


def _narrow(x: SSAValue, edit: Edit) -> SSAValue:
    array = edit.array(x)
    if array is None or array.ndim == 0 or number(edit, x) is None:
        return x
    return edit.constant(array.reshape(-1)[0])


class NoConversion(Pattern[ConvertOp]):
    """Converting to the type that a value has changes nothing."""

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        return op.x if spec(op.x) == spec(op.y) else None


class ConversionAndBack(Pattern[ConvertOp]):
    """``convert(convert(x)) = convert(x)`` when the first step loses nothing."""

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, ConvertOp)
        if inner is None or not _lossless(spec(inner.x).dtype.name, spec(op.x).dtype.name):
            return None
        return edit.add(ConvertOp, inner.x, to=op.to.data, saturate=op.saturate.data)


_WIDER = {
    "bool": {"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64"},
    "f16": {"f32", "f64"},
    "bf16": {"f32", "f64"},
    "f32": {"f64"},
    "i8": {"i16", "i32", "i64", "f32", "f64"},
    "u8": {"i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64"},
    "i16": {"i32", "i64", "f32", "f64"},
    "i32": {"i64", "f64"},
}


def _lossless(small: str, wide: str) -> bool:
    return wide in _WIDER.get(small, ())


class SizesAsConstant(Pattern[DimValuesOp]):
    """Sizes that no symbol decides are a constant."""

    root = DimValuesOp

    def _rewrite(self, op: DimValuesOp, edit: Edit) -> Replacement:
        sizes = [v.constant for v in op.values.data]
        known = [s for s in sizes if s is not None]
        return edit.constant(np.array(known, np.int64)) if len(known) == len(sizes) else None


PATTERNS: tuple[Pattern[MapOp] | Pattern[ConvertOp] | Pattern[DimValuesOp], ...] = (
    *(ConstantLast(), NeutralOperand(), LogicalNeutral(), SameOperand(), FixedWhere()),
    *(WhereNot(), BooleanWhere(), Involution(), Idempotent(), ReluOfMax(), ClipOrder()),
    *(SmallPower(), ReciprocalOfSqrt(), ReciprocalOfDivision(), NegOfSubtraction()),
    *(ExactReciprocal(), NarrowConstant(), NoConversion(), ConversionAndBack()),
    SizesAsConstant(),
)

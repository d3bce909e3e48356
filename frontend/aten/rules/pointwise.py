"""Operators that work element by element."""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Argument, Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import DType, boolean, u8
from tapeout.ir.types import spec

_UNARY = {
    **{n: n for n in ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan")},
    **{n: n for n in ("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")},
    **{
        n: n for n in ("neg", "abs", "sign", "reciprocal", "erf", "sigmoid", "relu", "silu", "mish")
    },
    **{n: n for n in ("floor", "ceil", "trunc")},
    "bitwise_not": "not",
}
_BINARY = {
    **{"mul": "mul", "minimum": "min", "maximum": "max", "max": "max", "min": "min", "pow": "pow"},
    **{"remainder": "floor_mod", "fmod": "trunc_mod"},
    **{"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"},
}
_OF_BOOLS = {"mul": "and", "min": "and", "max": "or"}
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_KEEPS_INTEGERS = ("floor", "ceil", "trunc")


@rule(*(f"aten.{name}" for name in _UNARY))
def unary(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """A function of one tensor; rounding leaves integers as they are."""
    fn = _UNARY[call.operator]
    if fn in _KEEPS_INTEGERS and not spec(x).dtype.is_float:
        return x
    return b.map(fn, b.convert(x, call.dtype))


@rule(*(f"aten.{name}" for name in _BINARY if name not in ("max", "min")))
def binary(b: Builder, call: Call, x: Argument, y: Argument) -> SSAValue:
    """A function of two, in the type of the result."""
    fn, dtype = _BINARY[call.operator], call.dtype
    if dtype is boolean:
        fn = _OF_BOOLS.get(fn, fn)
    return b.map(fn, b.operand(x, dtype), b.operand(y, dtype))


@rule(*(f"aten.{name}" for name in _COMPARE))
def compare(b: Builder, call: Call, x: Argument, y: Argument) -> SSAValue:
    """A comparison, in the type that both are promoted to."""
    dtype = call.promoted(0, 1)
    dtype = u8 if dtype is boolean else dtype
    return b.map(call.operator, b.operand(x, dtype), b.operand(y, dtype))


@rule("aten.add", "aten.sub")
def add(b: Builder, call: Call, x: Argument, y: Argument, *, alpha: float = 1) -> SSAValue:
    """``x + alpha * y``; of bools, or."""
    dtype, fn = call.dtype, call.operator
    right = b.operand(y, dtype)
    if alpha != 1:
        right = b.map("mul", right, b.constant(alpha, dtype))
    if dtype is boolean:
        return b.map("or", b.operand(x, dtype), right)
    return b.map(fn, b.operand(x, dtype), right)


@rule("aten.rsub")
def subtract_from(b: Builder, call: Call, x: SSAValue, y: Argument, alpha: float = 1) -> SSAValue:
    """``y - alpha * x``."""
    dtype = call.dtype
    less = b.operand(x, dtype)
    less = less if alpha == 1 else b.map("mul", less, b.constant(alpha, dtype))
    return b.map("sub", b.operand(y, dtype), less)


@rule("aten.div")
def divide(
    b: Builder, call: Call, x: Argument, y: Argument, *, rounding_mode: str | None = None
) -> SSAValue:
    """True division, or rounded to an integer toward zero or toward minus infinity."""
    dtype = call.dtype
    left, right = b.operand(x, dtype), b.operand(y, dtype)
    return quotient(b, left, right, rounding_mode)


@rule("aten.floor_divide")
def floor_divide(b: Builder, call: Call, x: Argument, y: Argument) -> SSAValue:
    """Division rounded toward minus infinity."""
    return divide(b, call, x, y, rounding_mode="floor")


def quotient(b: Builder, x: SSAValue, y: SSAValue, rounding: str | None) -> SSAValue:
    """``x / y``, rounded toward zero (``trunc``) or minus infinity (``floor``).

    The floor is ``(x - x mod y) / y``, where the remainder has the sign of ``y``: of floats
    ``x / y`` may have been rounded up to an integer before it is seen.
    """
    if rounding is None:
        return b.map("div", x, y)
    dtype, x, y = spec(x).dtype, b.widened(x), b.widened(y)
    made = b.map("div", x, y)
    if rounding == "floor":
        whole = b.map("div", b.map("sub", x, b.map("floor_mod", x, y)), y)
        if not dtype.is_float:
            return whole
        made = b.map("where", b.map("eq", y, b.like(0, y)), made, b.map("round", whole))
    return b.convert(b.map("trunc", made) if dtype.is_float else made, dtype)


@rule("aten.logical_and", "aten.logical_or", "aten.logical_xor")
def logical(b: Builder, call: Call, x: SSAValue, y: SSAValue) -> SSAValue:
    """Of truths; numbers are true where they are not 0."""
    fn = call.operator.removeprefix("logical_")
    return b.map(fn, truth(b, x), truth(b, y))


@rule("aten.logical_not")
def logical_not(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """Whether ``x`` is 0."""
    return b.map("not", truth(b, x))


def truth(b: Builder, x: SSAValue) -> SSAValue:
    """``x != 0`` as bool."""
    return x if spec(x).dtype is boolean else b.map("ne", x, b.like(0, x))


@rule("aten.isnan")
def is_nan(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """Whether elements are NaN; integers never are."""
    return b.map("is_nan", x) if spec(x).dtype.is_float else b.map("ne", x, x)


@rule("aten.isinf")
def is_inf(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """Whether elements are infinite; integers never are."""
    return b.map("is_inf", x) if spec(x).dtype.is_float else b.map("ne", x, x)


@rule("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def where(b: Builder, call: Call, condition: SSAValue, x: Argument, y: Argument) -> SSAValue:
    """``x`` where the condition holds, else ``y``."""
    dtype = call.dtype
    return b.map("where", truth(b, condition), b.operand(x, dtype), b.operand(y, dtype))


@rule("aten.masked_fill")
def masked_fill(b: Builder, call: Call, x: SSAValue, mask: SSAValue, value: Argument) -> SSAValue:
    """``value`` where the mask holds."""
    return b.map("where", mask, b.operand(value, call.dtype), x)


@rule("aten.clamp", "aten.hardtanh")
def clamp(
    b: Builder, call: Call, x: SSAValue, low: Argument | None = None, high: Argument | None = None
) -> SSAValue:
    """``min(max(x, low), high)``; an end that is not given is open."""
    dtype = call.dtype
    if call.operator == "hardtanh":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    y = b.convert(x, dtype)
    most, least = ("or", "and") if dtype is boolean else ("max", "min")
    y = y if low is None else b.map(most, y, b.operand(low, dtype))
    return y if high is None else b.map(least, y, b.operand(high, dtype))


@rule("aten.clamp_min")
def clamp_min(b: Builder, call: Call, x: SSAValue, low: Argument) -> SSAValue:
    """``max(x, low)``."""
    return clamp(b, call, x, low, None)


@rule("aten.clamp_max")
def clamp_max(b: Builder, call: Call, x: SSAValue, high: Argument) -> SSAValue:
    """``min(x, high)``."""
    return clamp(b, call, x, None, high)


@rule("aten.round")
def round_(b: Builder, call: Call, x: SSAValue, *, decimals: int = 0) -> SSAValue:
    """To the nearest integer, or number of decimals; ties go to even."""
    if not spec(x).dtype.is_float:
        return x
    if decimals == 0:
        return b.map("round", x)
    scale = b.like(10.0 ** abs(decimals), x)
    there, back = ("mul", "div") if decimals > 0 else ("div", "mul")
    return b.map(back, b.map("round", b.map(there, x, scale)), scale)


@rule("aten.gelu")
def gelu(b: Builder, call: Call, x: SSAValue, *, approximate: str = "none") -> SSAValue:
    """Exact, or by tanh: they differ by up to 5e-4."""
    return b.map("gelu" if approximate == "none" else "gelu_tanh", x)


@rule("aten.softplus")
def softplus(
    b: Builder, call: Call, x: SSAValue, beta: float = 1, threshold: float = 20
) -> SSAValue:
    """``log(1 + exp(beta * x)) / beta``; above the threshold torch gives ``x``."""
    if beta == 1:
        y = b.map("softplus", x)
        scaled = x
    else:
        scaled = b.map("mul", x, b.like(beta, x))
        y = b.map("div", b.map("softplus", scaled), b.like(beta, x))
    return b.map("where", b.map("gt", scaled, b.like(threshold, x)), x, y)


@rule("aten.hardswish")
def hardswish(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """``x * relu6(x + 3) / 6``."""
    return b.map("mul", x, hardsigmoid(b, call, x))


@rule("aten.hardsigmoid")
def hardsigmoid(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """``relu6(x + 3) / 6``."""
    y = b.map("max", b.map("add", x, b.like(3, x)), b.like(0, x))
    return b.map("div", b.map("min", y, b.like(6, x)), b.like(6, x))


@rule("aten.leaky_relu")
def leaky_relu(b: Builder, call: Call, x: SSAValue, slope: float = 0.01) -> SSAValue:
    """``x`` above 0, ``slope * x`` below."""
    return b.map("where", b.map("gt", x, b.like(0, x)), x, b.map("mul", x, b.like(slope, x)))


@rule("aten.elu")
def elu(
    b: Builder, call: Call, x: SSAValue, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> SSAValue:
    """``scale * x`` above 0, ``scale * alpha * (exp(input_scale * x) - 1)`` below."""
    grown = b.map("expm1", b.map("mul", x, b.like(input_scale, x)))
    below = b.map("mul", grown, b.like(alpha * scale, x))
    above = b.map("mul", x, b.like(scale, x))
    return b.map("where", b.map("gt", x, b.like(0, x)), above, below)


@rule("aten.selu")
def selu(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """:func:`elu` with the constants of Klambauer et al. 2017, arXiv:1706.02515."""
    return elu(b, call, x, 1.6732632423543772, 1.0507009873554805)


@rule("aten.celu")
def celu(b: Builder, call: Call, x: SSAValue, alpha: float = 1) -> SSAValue:
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` below."""
    return elu(b, call, x, alpha, 1, 1 / alpha)


@rule("aten.prelu", "aten._prelu_kernel")
def prelu(b: Builder, call: Call, x: SSAValue, slope: SSAValue) -> SSAValue:
    """``x`` above 0, below times the slope: one, or one for each place of axis 1."""
    if spec(slope).rank == 1:
        ones = [1] * max(spec(x).rank - 2, 0)
        slope = b.reshape(slope, (spec(slope).size, *ones) if spec(x).rank else ())
    below = b.map("mul", x, slope)
    return b.map("where", b.map("gt", x, b.like(0, x)), x, below)


@rule("aten.fmax", "aten.fmin")
def extreme_number(b: Builder, call: Call, x: SSAValue, y: SSAValue) -> SSAValue:
    """The greater or lesser of two; of a number and NaN the number."""
    x, y = b.convert(x, call.dtype), b.convert(y, call.dtype)
    fn = call.operator.removeprefix("f")
    chosen = b.map(_OF_BOOLS[fn] if call.dtype is boolean else fn, x, y)
    if not call.dtype.is_float:
        return chosen
    return b.map("where", b.map("is_nan", x), y, b.map("where", b.map("is_nan", y), x, chosen))


@rule("aten.signbit")
def sign_bit(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """Whether a number is below 0, or is the zero whose reciprocal is."""
    if spec(x).dtype is boolean:
        return b.map("and", x, b.map("not", x))
    below = b.map("lt", x, b.like(0, x))
    if not spec(x).dtype.is_float:
        return below
    return b.map("or", below, b.map("lt", b.map("reciprocal", x), b.like(0, x)))


@rule("aten.copysign")
def copy_sign(b: Builder, call: Call, x: SSAValue, y: Argument) -> SSAValue:
    """The magnitude of one with the sign of the other."""
    size = b.map("abs", b.convert(x, call.dtype))
    return b.map("where", sign_bit(b, call, b.operand(y, call.dtype)), b.map("neg", size), size)


@rule("aten.atan2")
def atan2(b: Builder, call: Call, y: SSAValue, x: SSAValue) -> SSAValue:
    """The angle of the point ``(x, y)``: of its mirror in the first quadrant, then turned."""
    y, x = b.convert(y, call.dtype), b.convert(x, call.dtype)
    up, right = b.widened(b.map("abs", y)), b.widened(b.map("abs", x))
    # Of two zeros the angle is 0, of two infinities that of two ones.
    alike = b.map("eq", up, right)
    zero = b.map("eq", up, b.like(0, up))
    slope = b.map(
        "where", alike, b.convert(b.map("not", zero), spec(up).dtype), b.map("div", up, right)
    )
    angle = b.map("atan", slope)
    turned = b.map("sub", b.like(math.pi, angle), angle)
    angle = b.map("where", sign_bit(b, call, x), turned, angle)
    angle = b.convert(angle, call.dtype)
    return b.map("where", sign_bit(b, call, y), b.map("neg", angle), angle)


@rule("aten.ldexp")
def ldexp(b: Builder, call: Call, x: SSAValue, y: SSAValue) -> SSAValue:
    """``x * 2 ** y``."""
    return b.map("mul", b.convert(x, call.dtype), exp2(b, call, y))


@rule("aten.glu")
def glu(b: Builder, call: Call, x: SSAValue, dim: int = -1) -> SSAValue:
    """The first half times the sigmoid of the second."""
    axis = dim % spec(x).rank
    half = spec(x).dims[axis] // 2
    gate = b.part(x, axis, half, half)
    return b.map("mul", b.part(x, axis, 0, half), b.map("sigmoid", gate))


@rule("aten.log2")
def log2(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """The logarithm to base 2."""
    return _scaled_log(b, call, x, 2)


@rule("aten.log10")
def log10(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """The logarithm to base 10."""
    return _scaled_log(b, call, x, 10)


def _scaled_log(b: Builder, call: Call, x: SSAValue, base: int) -> SSAValue:
    y = b.map("log", b.convert(x, call.dtype))
    return b.map("mul", y, b.like(1 / math.log(base), y))


@rule("aten.exp2")
def exp2(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """Two to the power of ``x``."""
    x = b.convert(x, call.dtype)
    return b.map("pow", b.like(2, x), x)


@rule("aten.bitwise_left_shift", "aten.__lshift__")
def shift_left(b: Builder, call: Call, x: Argument, y: Argument) -> SSAValue:
    """Times a power of two."""
    return b.map("shift_left", b.operand(x, call.dtype), b.operand(y, call.dtype))


@rule("aten.bitwise_right_shift", "aten.__rshift__")
def shift_right(b: Builder, call: Call, x: Argument, y: Argument) -> SSAValue:
    """By a power of two, rounded toward minus infinity."""
    return b.map("shift_right", b.operand(x, call.dtype), b.operand(y, call.dtype))


@rule("aten._to_copy", "prims.convert_element_type", "aten.to")
def convert(b: Builder, call: Call, x: SSAValue, *, dtype: Any = None) -> SSAValue:
    """Another element type: floats are cut toward zero on the way to integers."""
    to: DType = call.dtype
    return truth(b, x) if to is boolean else b.convert(x, to)


@rule("aten.copy")
def copy(b: Builder, call: Call, x: SSAValue, y: Argument) -> SSAValue:
    """The elements of ``y`` in the shape and element type of ``x``."""
    value = b.operand(y, call.dtype)
    return value if spec(value).dims == call.output.dims else b.expand(value, call.output.dims)


@rule("aten.clone", "aten.alias", "aten.detach", "aten.contiguous", "aten.lift_fresh_copy")
def same(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """A copy, or another view of the same memory: values have neither here."""
    return x


@rule("aten.dropout", "aten.native_dropout")
def dropout(
    b: Builder, call: Call, x: SSAValue, p: float = 0.5, train: bool | None = False
) -> SSAValue | tuple[SSAValue, SSAValue]:
    """Nothing, outside of training; the native one says that it kept all."""
    if train or train is None:
        call.refuse("a model in training has no support", fix="call .eval() before exporting")
    kept = b.expand(b.constant(True, boolean), spec(x).dims)
    return (x, kept) if call.operator == "native_dropout" else x

"""Elementwise arithmetic with numpy broadcasting."""

from collections.abc import Mapping
from functools import reduce

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import DType, f32, f64
from tapeout.ir.shapes import check_axis

UNARY: Mapping[str, str] = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sqrt": "sqrt",
}
BINARY: Mapping[str, str] = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
VARIADIC: Mapping[str, str] = {"Sum": "add", "Max": "max", "Min": "min"}


@rule(*UNARY)
def unary(b: Builder, node: Call, x: Value) -> Value:
    """One function of each element."""
    return b.map(UNARY[node.node.op_type], x)


@rule(*BINARY)
def binary(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """One function of two elements; integers divide toward zero."""
    return b.map(BINARY[node.node.op_type], x, aligned(b, node, x, y))


@rule(*VARIADIC)
def variadic(b: Builder, node: Call, *xs: Value) -> Value:
    """All operands combined from the left."""
    return combined(b, node, VARIADIC[node.node.op_type], xs)


@rule("Mean")
def mean(b: Builder, node: Call, *xs: Value) -> Value:
    """The sum over the number of operands."""
    return b.map("div", combined(b, node, "add", xs), len(xs))


@rule("Mod")
def mod(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """The remainder with the sign of the divisor, or with ``fmod`` of the dividend."""
    return b.map("trunc_mod" if node.flag("fmod") else "floor_mod", x, y)


@rule("Pow")
def power(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """``x`` to the power ``y``, in the type of ``x``; computed in floats when either is one."""
    y = aligned(b, node, x, y)
    if x.dtype.is_float or y.dtype.is_integer:
        return b.map("pow", x, b.convert(y, x.dtype))
    wide = _float_for(x.dtype, y.dtype)
    made = b.map("pow", b.convert(x, wide), b.convert(y, wide))
    return b.convert(made, x.dtype)


def aligned(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """``y`` for numpy's broadcast: below version 7 its axes start at ``axis`` of ``x``."""
    if node.version >= 7 or not node.flag("broadcast") or not node.has("axis"):
        return y
    start = check_axis(node.integer("axis"), x.rank, node.node.op_type)
    return b.reshape(y, [*y.dims, *[1] * (x.rank - start - y.rank)])


def combined(b: Builder, node: Call, fn: str, xs: tuple[Value, ...]) -> Value:
    """A binary function over any number of operands; E0310 for none."""
    if not xs:
        node.invalid("an input is missing", ("inputs", 0))
    return reduce(lambda left, right: b.map(fn, left, right), xs)


def _float_for(x: DType, y: DType) -> DType:
    return f64 if max(x.bits, y.bits) > 32 else f32

"""Comparisons, logic, bits and choice."""

from collections.abc import Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.arithmetic import aligned
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean

BINARY: Mapping[str, str] = {
    "And": "and",
    "BitwiseAnd": "and",
    "BitwiseOr": "or",
    "BitwiseXor": "xor",
    "Equal": "eq",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Less": "lt",
    "LessOrEqual": "le",
    "Or": "or",
    "Xor": "xor",
}


@rule(*BINARY)
def binary(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """One function of two elements."""
    return b.map(BINARY[node.node.op_type], x, aligned(b, node, x, y))


@rule("Not", "BitwiseNot")
def invert(b: Builder, node: Call, x: Value) -> Value:
    """Every bit turned, which for a bool is its negation."""
    return b.map("not", x)


@rule("BitShift")
def shift(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """``x`` moved by ``y`` bits."""
    direction = node.text("direction")
    if direction not in ("LEFT", "RIGHT"):
        node.invalid("direction is neither LEFT nor RIGHT", ("direction", direction))
    if direction == "LEFT":
        return b.map("shift_left", x, y)
    if x.dtype.kind != "int":
        return b.map("shift_right", x, y)
    # A signed number shifted by its width or more is all sign; a negative count is a large one.
    most = x.dtype.bits - 1
    return b.map("shift_right", x, b.map("where", b.map("lt", y, 0), most, b.map("min", y, most)))


@rule("Where")
def where(b: Builder, node: Call, condition: Value, x: Value, y: Value) -> Value:
    """``x`` where the condition holds, else ``y``."""
    return b.map("where", condition, x, y)


@rule("IsNaN")
def is_nan(b: Builder, node: Call, x: Value) -> Value:
    """Whether an element is not a number."""
    return b.map("is_nan", x)


@rule("IsInf")
def is_inf(b: Builder, node: Call, x: Value) -> Value:
    """Whether an element is infinite, of the signs asked for."""
    positive = node.flag("detect_positive", True)
    negative = node.flag("detect_negative", True)
    if positive and negative:
        return b.map("is_inf", x)
    if not positive and not negative:
        return b.filled(x.dims, 0, boolean)
    return b.map("and", b.map("is_inf", x), b.map("gt" if positive else "lt", x, 0))

"""Elementwise arithmetic with numpy broadcasting."""

from functools import reduce

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value


@rule("Add")
def add(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """``x + y``."""
    return b.map("add", x, y)


@rule("Sum")
def sum_(b: Builder, node: Call, *xs: Value) -> Value:
    """The sum of all operands."""
    return reduce(lambda a, x: b.map("add", a, x), xs)

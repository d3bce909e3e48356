"""Trigonometric and hyperbolic functions, and erf."""

from collections.abc import Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value

FUNCTIONS: Mapping[str, str] = {
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Sin": "sin",
    "Sinh": "sinh",
    "Tan": "tan",
    "Tanh": "tanh",
}


@rule(*FUNCTIONS)
def function(b: Builder, node: Call, x: Value) -> Value:
    """One function of each element."""
    return b.map(FUNCTIONS[node.node.op_type], x)

"""Activations: one function of each element."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value


@rule("Relu")
def relu(b: Builder, node: Call, x: Value) -> Value:
    """``max(x, 0)``."""
    return b.map("relu", x)

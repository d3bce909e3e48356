"""Axes of length one: Squeeze and Unsqueeze."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.shapes import check_axis


@rule("Squeeze")
def squeeze(b: Builder, node: Call, x: Value, axes: Value | None = None) -> Value:
    """Take axes of length one away: those given, else all that are one for sure."""
    if axes is not None:
        gone = b.ints(node, axes, "axes")
    elif node.has("axes"):
        gone = list(node.integers("axes"))
    else:
        gone = [i for i, d in enumerate(x.dims) if d == 1]
    gone = {check_axis(a, x.rank, "Squeeze") for a in gone}
    return b.reshape(x, [d for i, d in enumerate(x.dims) if i not in gone])


@rule("Unsqueeze")
def unsqueeze_attribute(b: Builder, node: Call, x: Value) -> Value:
    """Insert axes of length one; ``axes`` is an attribute up to version 12."""
    return _inserted(b, x, node.integers("axes"))


@rule("Unsqueeze", since=13)
def unsqueeze(b: Builder, node: Call, x: Value, axes: Value) -> Value:
    """Insert axes of length one; ``axes`` is an input from version 13 on."""
    return _inserted(b, x, b.ints(node, axes, "axes"))


def _inserted(b: Builder, x: Value, axes: "list[int] | tuple[int, ...]") -> Value:
    rank = x.rank + len(axes)
    new = {check_axis(a, rank, "Unsqueeze") for a in axes}
    rest = iter(x.dims)
    return b.reshape(x, [1 if i in new else next(rest) for i in range(rank)])

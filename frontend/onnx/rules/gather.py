"""Reading and writing at places that a tensor of indices names."""

from collections.abc import Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean, i64, u8
from tapeout.ir.ops.index import (
    GatherElementsOp,
    GatherNdOp,
    GatherOp,
    ScatterElementsOp,
    ScatterNdOp,
)
from tapeout.ir.shapes import check_axis

SCATTERS: Mapping[str, str] = {
    "none": "none",
    "add": "sum",
    "mul": "prod",
    "max": "max",
    "min": "min",
}


@rule("Gather")
def gather(b: Builder, node: Call, x: Value, indices: Value) -> Value:
    """The slices along ``axis`` that ``indices`` name."""
    return b.make(GatherOp, x, indices, axis=check_axis(node.integer("axis"), x.rank, "Gather"))


@rule("GatherElements")
def gather_elements(b: Builder, node: Call, x: Value, indices: Value) -> Value:
    """One index along ``axis`` for each element of the result."""
    axis = check_axis(node.integer("axis"), x.rank, "GatherElements")
    return b.make(GatherElementsOp, x, indices, axis=axis)


@rule("GatherND")
def gather_nd(b: Builder, node: Call, x: Value, indices: Value) -> Value:
    """The slices at the places in the last axis of ``indices``."""
    return b.make(GatherNdOp, x, indices, batch_dims=node.integer("batch_dims"))


@rule("ScatterElements", "Scatter")
def scatter_elements(b: Builder, node: Call, x: Value, indices: Value, updates: Value) -> Value:
    """``x`` with one element written for each index along ``axis``."""
    axis = check_axis(node.integer("axis"), x.rank, "ScatterElements")
    fn = reduction(node)
    made = [_numbers(b, v, fn) for v in (x, updates)]
    y = b.make(ScatterElementsOp, made[0], indices, made[1], axis=axis, fn=fn)
    return b.convert(y, x.dtype)


@rule("ScatterND")
def scatter_nd(b: Builder, node: Call, x: Value, indices: Value, updates: Value) -> Value:
    """``x`` with one slice written for each place in the last axis of ``indices``."""
    fn = reduction(node)
    made = [_numbers(b, v, fn) for v in (x, updates)]
    return b.convert(b.make(ScatterNdOp, made[0], indices, made[1], fn=fn), x.dtype)


@rule("ReverseSequence")
def reverse_sequence(b: Builder, node: Call, x: Value, lengths: Value) -> Value:
    """The first ``lengths[b]`` steps of each batch element in reverse order."""
    time = check_axis(node.integer("time_axis", 0), x.rank, "ReverseSequence")
    batch = check_axis(node.integer("batch_axis", 1), x.rank, "ReverseSequence")
    step = b.iota([x.dims[time] if i == time else 1 for i in range(x.rank)], time)
    length = b.convert(lengths, i64)
    length = b.reshape(length, [x.dims[batch] if i == batch else 1 for i in range(x.rank)])
    mirrored = b.map("sub", b.map("sub", length, step), 1)
    place = b.map("where", b.map("lt", step, length), mirrored, step)
    return b.make(GatherElementsOp, x, b.expand(place, x.dims), axis=time)


def reduction(node: Call) -> str:
    """How written elements combine with what is there; E0310 for an unknown name."""
    name = node.text("reduction", "none")
    if name not in SCATTERS:
        node.invalid("reduction is unknown", ("reduction", name), ("known", ", ".join(SCATTERS)))
    return SCATTERS[name]


def _numbers(b: Builder, x: Value, fn: str) -> Value:
    return b.convert(x, u8) if x.dtype is boolean and fn != "none" else x

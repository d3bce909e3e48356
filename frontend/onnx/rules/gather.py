"""Reading and writing at places that a tensor of indices names."""

from collections.abc import Mapping, Sequence

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Array, Value
from tapeout.ir.dtypes import boolean, i64, u8
from tapeout.ir.expr import Expr, bounds
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
    axis = check_axis(node.integer("axis"), x.rank, "Gather")
    _check_range(node, x.dims[axis], indices)
    return b.make(GatherOp, x, indices, axis=axis)


@rule("GatherElements")
def gather_elements(b: Builder, node: Call, x: Value, indices: Value) -> Value:
    """One index along ``axis`` for each element of the result."""
    axis = check_axis(node.integer("axis"), x.rank, "GatherElements")
    _check_range(node, x.dims[axis], indices)
    return b.make(GatherElementsOp, x, indices, axis=axis)


@rule("GatherND")
def gather_nd(b: Builder, node: Call, x: Value, indices: Value) -> Value:
    """The slices at the places in the last axis of ``indices``."""
    batch = node.integer("batch_dims")
    _check_places(node, x.dims[batch:], indices)
    return b.make(GatherNdOp, x, indices, batch_dims=batch)


@rule("ScatterElements", "Scatter")
def scatter_elements(b: Builder, node: Call, x: Value, indices: Value, updates: Value) -> Value:
    """``x`` with one element written for each index along ``axis``."""
    axis = check_axis(node.integer("axis"), x.rank, "ScatterElements")
    _check_range(node, x.dims[axis], indices)
    fn = reduction(node)
    made = [_numbers(b, v, fn) for v in (x, updates)]
    y = b.make(ScatterElementsOp, made[0], indices, made[1], axis=axis, fn=fn)
    return b.convert(y, x.dtype)


@rule("ScatterND")
def scatter_nd(b: Builder, node: Call, x: Value, indices: Value, updates: Value) -> Value:
    """``x`` with one slice written for each place in the last axis of ``indices``."""
    _check_places(node, x.dims, indices)
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


def _check_places(node: Call, dims: Sequence[Expr], indices: Value) -> None:
    """As :func:`_check_range` for each column of the last axis, which are places in ``dims``."""
    if indices.array is not None and indices.rank:
        for column, size in zip(np.moveaxis(indices.array, -1, 0), dims, strict=False):
            _check_numbers(node, size, column)


def _check_range(node: Call, size: Expr, indices: Value) -> None:
    """E0310 when an index that is known lies outside every possible size."""
    if indices.array is not None:
        _check_numbers(node, size, indices.array)


def _check_numbers(node: Call, size: Expr, numbers: Array) -> None:
    most = bounds(size)[1]
    if most is None or numbers.size == 0:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < -most or high >= most:
        node.invalid("an index is out of range", ("indices", f"{low} to {high}"), ("size", size))


def _numbers(b: Builder, x: Value, fn: str) -> Value:
    return b.convert(x, u8) if x.dtype is boolean and fn != "none" else x

"""Sizes as values, and tensors made from sizes."""

import math

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.cast import type_attribute
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, ceildiv, is_at_least, maximum


@rule("Shape")
def shape(b: Builder, node: Call, x: Value) -> Value:
    """The sizes from ``start`` up to ``end``, both counted and clamped as in a slice."""
    start, end = node.integer("start"), node.integer("end", x.rank)
    return b.sizes(x.dims[slice(start, end)])


@rule("Size")
def size(b: Builder, node: Call, x: Value) -> Value:
    """The number of elements."""
    return b.size(x.spec.size)


@rule("Constant")
def constant(b: Builder, node: Call) -> Value:
    """A literal in one of the attributes' forms."""
    import numpy as np

    if node.has("value_float") or node.has("value_floats"):
        one = node.has("value_float")
        return b.constant(
            np.array(node.real("value_float") if one else node.reals("value_floats"), np.float32)
        )
    if node.has("value_int") or node.has("value_ints"):
        one = node.has("value_int")
        return b.constant(
            np.array(node.integer("value_int") if one else node.integers("value_ints"), np.int64)
        )
    if node.has("value_string") or node.has("value_strings"):
        node.refuse("strings have no support", fix="turn text into numbers outside the model")
    name = "value" if node.has("value") else "sparse_value"
    return b.literal(node.tensor(name))


@rule("ConstantOfShape")
def constant_of_shape(b: Builder, node: Call, sizes: Value) -> Value:
    """A tensor with one value everywhere, by default the float 0."""
    if node.has("value"):
        value = b.reshape(b.literal(node.tensor("value")), ())
    else:
        value = b.constant(0.0)
    return b.expand(value, b.dims_from(sizes))


@rule("Range")
def range_(b: Builder, node: Call, start: Value, limit: Value, delta: Value) -> Value:
    """``start + i * delta`` up to ``limit``, which is left out."""
    start, limit, delta = (b.reshape(v, ()) for v in (start, limit, delta))
    count = _known_count(b, node, start, limit, delta)
    if count is None:
        (count,) = b.dims_from(b.reshape(_count(b, start, limit, delta), [1]))
    steps = b.iota([count], 0, start.dtype)
    if delta.array is None or delta.array != 1:
        steps = b.map("mul", steps, delta)
    return steps if start.array is not None and start.array == 0 else b.map("add", steps, start)


def _known_count(
    b: Builder, node: Call, start: Value, limit: Value, delta: Value
) -> Expr | int | None:
    if delta.array is None or start.content is None or limit.content is None:
        return None
    step = delta.array.item()
    if step == 0:
        node.invalid("delta is zero", ("delta", step))
    if not start.dtype.is_integer:
        assert start.array is not None, "sizes are integers"
        assert limit.array is not None, "sizes are integers"
        return max(0, math.ceil((float(limit.array) - float(start.array)) / step))
    ends = b.exprs(b.concat([b.reshape(start, [1]), b.reshape(limit, [1])], 0))
    assert ends is not None, "both are known"
    first, last = ends
    span = ceildiv(last - first, step) if step > 0 else ceildiv(first - last, -step)
    return span if is_at_least(span, 0) else maximum(span, 0)


def _count(b: Builder, start: Value, limit: Value, delta: Value) -> Value:
    """``max(0, ceil((limit - start) / delta))`` by operators."""
    span = b.map("sub", limit, start)
    if start.dtype.is_integer:
        up = b.map("sub", b.map("add", span, delta), b.map("sign", delta))
        made = b.map("div", up, delta)
    else:
        made = b.map("ceil", b.map("div", span, delta))
    return b.map("max", b.convert(made, i64), 0)


@rule("EyeLike")
def eye_like(b: Builder, node: Call, x: Value) -> Value:
    """Ones on diagonal ``k`` of a matrix with the shape of ``x``."""
    if x.rank != 2:
        node.invalid("the input is no matrix", ("rank", x.rank))
    rows, columns = b.iota(x.dims, 0), b.iota(x.dims, 1)
    on = b.map("eq", columns, b.map("add", rows, node.integer("k")))
    return b.convert(on, type_attribute(node, "dtype", x.dtype))


@rule("Trilu")
def trilu(b: Builder, node: Call, x: Value, k: Value | None = None) -> Value:
    """The upper or lower triangle of each matrix from diagonal ``k`` on; zero elsewhere."""
    offset = b.size(0) if k is None else b.reshape(k, ())
    rows, columns = b.iota(x.dims[-2:], 0), b.iota(x.dims[-2:], 1)
    keep = "ge" if node.flag("upper", True) else "le"
    kept = b.map(keep, columns, b.map("add", rows, offset))
    return b.map("where", kept, x, b.scalar(0, x.dtype))


@rule("OneHot")
def one_hot(b: Builder, node: Call, indices: Value, depth: Value, values: Value) -> Value:
    """A new axis of ``depth``: the second value at the index, the first elsewhere."""
    (count,) = b.dims_from(b.reshape(b.convert(depth, i64), [1]))
    rank = indices.rank + 1
    axis = node.integer("axis", -1)
    if not -rank <= axis < rank:
        node.invalid("axis is out of range", ("axis", axis), ("rank", rank))
    axis %= rank
    at = b.convert(indices, i64)
    at = b.map("where", b.map("lt", at, 0), b.map("add", at, b.size(count)), at)
    at = b.reshape(at, [*at.dims[:axis], 1, *at.dims[axis:]])
    places = b.iota([count if i == axis else 1 for i in range(rank)], axis)
    off, on = (b.reshape(b.slice_axis(values, 0, i, 1), ()) for i in (0, 1))
    return b.map("where", b.map("eq", places, at), on, off)

"""Choosing and ordering elements."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import Expr, bounds
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.reduce import ArgReduceOp
from tapeout.ir.ops.sort import NonZeroOp, TopKOp, UniqueOp
from tapeout.ir.shapes import check_axis


@rule("ArgMax", "ArgMin")
def arg_reduce(b: Builder, node: Call, x: Value) -> Value:
    """The index of the largest or smallest along ``axis``."""
    return b.make(
        ArgReduceOp,
        x,
        fn="max" if node.node.op_type == "ArgMax" else "min",
        axis=check_axis(node.integer("axis"), x.rank, node.node.op_type),
        keepdims=node.flag("keepdims", True),
        last=node.flag("select_last_index"),
    )


@rule("Hardmax")
def hardmax(b: Builder, node: Call, x: Value) -> Value:
    """One at the first largest along ``axis``; below version 13 along all axes from it on."""
    axis = node.integer("axis", -1 if node.version >= 13 else 1)
    dims = x.dims
    if node.version < 13:
        axis = check_axis(axis, x.rank, "Hardmax")
        rows, columns = x.spec.with_dims(dims[:axis]).size, x.spec.with_dims(dims[axis:]).size
        x, axis = b.reshape(x, [rows, columns]), 1
    axis = check_axis(axis, x.rank, "Hardmax")
    best = b.make(ArgReduceOp, x, fn="max", axis=axis, keepdims=True, last=False)
    place = b.iota([d if i == axis else 1 for i, d in enumerate(x.dims)], axis)
    return b.reshape(b.convert(b.map("eq", place, best), x.dtype), dims)


@rule("TopK")
def top_k_attribute(b: Builder, node: Call, x: Value) -> tuple[Value, ...]:
    """Up to version 9 ``k`` is an attribute."""
    return _top_k(b, node, x, b.sizes([node.integer("k")]))


@rule("TopK", since=10)
def top_k(b: Builder, node: Call, x: Value, k: Value) -> tuple[Value, ...]:
    """The ``k`` largest or smallest along ``axis`` with their indices."""
    return _top_k(b, node, x, k)


def _top_k(b: Builder, node: Call, x: Value, k: Value) -> tuple[Value, ...]:
    axis = check_axis(node.integer("axis", -1), x.rank, "TopK")
    count = b.dims_from(b.reshape(k, [1]), [x.dims[axis]])
    return b.make_many(TopKOp, x, k=count, axis=axis, largest=node.flag("largest", True))


@rule("NonZero")
def non_zero(b: Builder, node: Call, x: Value) -> Value:
    """The places of the elements that are not zero, one column each."""
    # A scalar counts as a vector of one.
    return _places(b, b.reshape(x, [1]) if x.rank == 0 else x)


@rule("Compress")
def compress(b: Builder, node: Call, x: Value, condition: Value) -> Value:
    """The slices along ``axis``, or the elements, where the condition holds."""
    if not node.has("axis"):
        x = b.reshape(x, [x.spec.size])
    axis = check_axis(node.integer("axis"), x.rank, "Compress")
    places = _places(b, b.convert(condition, boolean))
    return b.make(GatherOp, x, b.reshape(places, [places.dims[1]]), axis=axis)


@rule("Unique")
def unique(b: Builder, node: Call, x: Value) -> tuple[Value, ...]:
    """The distinct slices along ``axis``, or elements, with first places, inverse and counts."""
    axis = check_axis(node.integer("axis"), x.rank, "Unique") if node.has("axis") else None
    limit = x.spec.size if axis is None else x.dims[axis]
    count = b.symbols.fresh("n", 0, bounds(limit)[1])
    sort = node.flag("sorted", True)
    return b.make_many(UniqueOp, x, axis=axis, sorted=sort, count=(count,))


def _places(b: Builder, x: Value) -> Value:
    return b.make(NonZeroOp, x, count=(_count(b, x.spec.size),))


def _count(b: Builder, limit: Expr) -> Expr:
    return b.symbols.fresh("n", 0, bounds(limit)[1])

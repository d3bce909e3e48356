"""Sequences and optionals, gone at import: tuples of values, or the slices of one tensor."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.cast import type_attribute
from tapeout.frontend.onnx.rules.split import parts
from tapeout.frontend.onnx.value import AnyValue, Items, Nothing, Slices, Value
from tapeout.ir.dtypes import boolean, f32
from tapeout.ir.expr import ExprLike
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.shapes import check_axis


@rule("SequenceConstruct", containers=True)
def sequence_construct(b: Builder, node: Call, *items: Value) -> Items:
    """A sequence of the operands."""
    if not items:
        node.invalid("an input is missing", ("inputs", 0))
    return Items(items, items[0].dtype)


@rule("SequenceEmpty")
def sequence_empty(b: Builder, node: Call) -> Items:
    """A sequence of nothing."""
    return Items((), type_attribute(node, "dtype", f32))


@rule("SequenceInsert", containers=True)
def sequence_insert(
    b: Builder, node: Call, items: AnyValue, item: Value, position: Value | None = None
) -> Items:
    """``item`` before ``position``, by default at the end."""
    if position is None and isinstance(items, Items):
        return Items((*items.values, item), item.dtype, items.before)
    values = _items(node, items)
    place = len(values) if position is None else b.ints(node, position, "position")[0]
    if not -len(values) <= place <= len(values):
        node.invalid("position is out of range", ("position", place), ("length", len(values)))
    place += len(values) if place < 0 else 0
    return Items((*values[:place], item, *values[place:]), item.dtype)


@rule("SequenceErase", containers=True)
def sequence_erase(b: Builder, node: Call, items: AnyValue, position: Value | None = None) -> Items:
    """The sequence without the item at ``position``, by default the last."""
    values = _items(node, items)
    place = _place(b, node, values, position)
    return Items((*values[:place], *values[place + 1 :]), values[place].dtype)


@rule("SequenceAt", containers=True)
def sequence_at(b: Builder, node: Call, items: AnyValue, position: Value) -> Value:
    """The item at ``position``."""
    if isinstance(items, Slices):
        return b.make(GatherOp, items.tensor, position, axis=0)
    values = _items(node, items)
    return values[_place(b, node, values, position)]


@rule("SequenceLength", containers=True)
def sequence_length(b: Builder, node: Call, items: AnyValue) -> Value:
    """The number of items."""
    if isinstance(items, Slices):
        return b.size(items.tensor.dims[0])
    return b.size(len(_items(node, items)))


@rule("SplitToSequence", containers=True)
def split_to_sequence(
    b: Builder, node: Call, x: Value, split: Value | None = None
) -> Items | Slices:
    """Parts along ``axis`` of the sizes ``split``; of one each by default.

    The axis goes without ``keepdims``, when there is no ``split``.
    """
    axis = check_axis(node.integer("axis"), x.rank, "SplitToSequence")
    if split is None and x.dims[axis].constant is None:
        first = b.transpose(x, [axis, *(i for i in range(x.rank) if i != axis)])
        if node.flag("keepdims", True):
            first = b.reshape(first, [*first.dims[: axis + 1], 1, *first.dims[axis + 1 :]])
        return Slices(first)
    sizes = _part_sizes(b, node, x, axis, split)
    values = parts(b, x, axis, sizes)
    if split is None and not node.flag("keepdims", True):
        dims = [d for i, d in enumerate(x.dims) if i != axis]
        values = tuple(b.reshape(v, dims) for v in values)
    return Items(values, x.dtype)


@rule("ConcatFromSequence", containers=True)
def concat_from_sequence(b: Builder, node: Call, items: AnyValue) -> Value:
    """The items one after the other, along a new axis if asked for."""
    if isinstance(items, Slices):
        return _joined(b, items.tensor, node.integer("axis"), node.flag("new_axis"))
    values = _items(node, items)
    if not values:
        node.invalid("the sequence is empty", ("length", 0))
    rank, new = values[0].rank, node.flag("new_axis")
    axis = check_axis(node.integer("axis"), rank + new, "ConcatFromSequence")
    if new:
        values = [b.reshape(v, [*v.dims[:axis], 1, *v.dims[axis:]]) for v in values]
    return b.concat(values, axis)


@rule("SequenceMap", containers=True)
def sequence_map(b: Builder, node: Call, items: AnyValue, *others: AnyValue) -> tuple[Items, ...]:
    """The body over the items of all sequences; tensors are the same for each."""
    length = len(_items(node, items))
    inputs = [items, *others]
    if any(isinstance(v, Items) and len(v.values) != length for v in inputs):
        node.invalid("the sequences differ in length")
    body = node.graph("body")
    runs = [
        b.graph(body, [v.values[i] if isinstance(v, Items) else v for v in inputs])
        for i in range(length)
    ]
    columns = [[r[k] for r in runs] for k in range(len(body.outputs))]
    made = [[v for v in column if isinstance(v, Value)] for column in columns]
    return tuple(Items(tuple(c), c[0].dtype if c else f32) for c in made)


@rule("Optional", containers=True)
def optional(b: Builder, node: Call, x: AnyValue | None = None) -> AnyValue:
    """``x``, or nothing."""
    return Nothing() if x is None else x


@rule("OptionalHasElement", containers=True)
def optional_has_element(b: Builder, node: Call, x: AnyValue | None = None) -> Value:
    """Whether there is a value."""
    return b.scalar(not (x is None or isinstance(x, Nothing)), boolean)


@rule("OptionalGetElement", containers=True)
def optional_get_element(b: Builder, node: Call, x: AnyValue) -> AnyValue:
    """The value; E0310 when there is none."""
    if isinstance(x, Nothing):
        node.invalid("the optional has no value")
    return x


def _items(node: Call, value: AnyValue) -> Sequence[Value]:
    if isinstance(value, Slices):
        node.refuse("the length of a sequence is open", ("length", value.tensor.dims[0]))
    if not isinstance(value, Items):
        node.invalid("the input is not a sequence")
    if value.before is not None:
        raise value.before
    return value.values


def _joined(b: Builder, x: Value, axis: int, new: bool) -> Value:
    """``ConcatFromSequence`` of the slices of ``x``: their axis moves to its new place."""
    axis = check_axis(axis, x.rank - (not new), "ConcatFromSequence")
    moved = b.transpose(x, [*range(1, axis + 1), 0, *range(axis + 1, x.rank)])
    if new:
        return moved
    dims = moved.dims
    return b.reshape(moved, [*dims[:axis], dims[axis] * dims[axis + 1], *dims[axis + 2 :]])


def _place(b: Builder, node: Call, values: Sequence[Value], position: Value | None) -> int:
    place = -1 if position is None else b.ints(node, position, "position")[0]
    if not -len(values) <= place < len(values):
        node.invalid("position is out of range", ("position", place), ("length", len(values)))
    return place % len(values)


def _part_sizes(
    b: Builder, node: Call, x: Value, axis: int, split: Value | None
) -> Sequence[ExprLike]:
    if split is not None and split.rank == 1:
        return b.ints(node, split, "split")
    total = x.dims[axis].constant
    if total is None:
        node.refuse("the length of a sequence depends on a symbolic size", ("size", x.dims[axis]))
    step = 1 if split is None else b.ints(node, split, "split")[0]
    if step < 1:
        node.invalid("split is not positive", ("split", step))
    return [min(step, total - start) for start in range(0, total, step)]

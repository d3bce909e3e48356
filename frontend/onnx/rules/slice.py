"""Slice: starts, ends and steps as numpy has them, over sizes that may be symbols."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import (
    ZERO,
    Expr,
    as_expr,
    ceildiv,
    is_at_least,
    is_less,
    maximum,
    minimum,
)
from tapeout.ir.shapes import check_axis

OPEN = 2**31 - 1
"""An end at or beyond this means "to the end": exporters write INT32_MAX or INT64_MAX."""


@rule("Slice")
def slice_attributes(b: Builder, node: Call, x: Value) -> Value:
    """Up to version 9 the bounds are attributes."""
    starts, ends = node.integers("starts"), node.integers("ends")
    axes = node.integers("axes", range(len(starts)))
    return _sliced(b, node, x, b.sizes(starts), b.sizes(ends), list(axes), [1] * len(starts))


@rule("Slice", since=10)
def slice_(
    b: Builder,
    node: Call,
    x: Value,
    starts: Value,
    ends: Value,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    """From version 10 on the bounds are inputs, and there are steps."""
    count = b.length(starts)
    along = list(range(count)) if axes is None else b.ints(node, axes, "axes")
    strides = [1] * count if steps is None else b.ints(node, steps, "steps")
    return _sliced(b, node, x, starts, ends, along, strides)


def _sliced(
    b: Builder,
    node: Call,
    x: Value,
    starts: Value,
    ends: Value,
    axes: list[int],
    steps: list[int],
) -> Value:
    if 0 in steps:
        node.invalid("a step is zero", ("steps", steps))
    if len({b.length(starts), b.length(ends), len(axes), len(steps)}) > 1:
        node.invalid("starts, ends, axes and steps differ in number")
    axes = [check_axis(a, x.rank, "Slice") for a in axes]
    if len(set(axes)) < len(axes):
        node.invalid("an axis is named twice", ("axes", axes))
    sizes = [x.dims[a] for a in axes]
    bounds = _known_bounds(b, starts, ends, sizes, steps)
    first, count = bounds or _decided_bounds(b, starts, ends, sizes, steps)
    all_starts, all_sizes, all_steps = [ZERO] * x.rank, list(x.dims), [1] * x.rank
    for axis, start, size, step in zip(axes, first, count, steps, strict=True):
        all_starts[axis], all_sizes[axis], all_steps[axis] = start, size, step
    return b.slice(x, all_starts, all_sizes, all_steps)


def _known_bounds(
    b: Builder, starts: Value, ends: Value, sizes: list[Expr], steps: list[int]
) -> tuple[list[Expr], list[Expr]] | None:
    first, last = b.exprs(starts), b.exprs(ends)
    if first is None or last is None:
        return None
    made: list[tuple[Expr, Expr]] = []
    for start, end, size, step in zip(first, last, sizes, steps, strict=True):
        low, high = _place(start, size, step), _place(end, size, step)
        if low is None or high is None:
            return None
        span = ceildiv(high - low, step) if step > 0 else ceildiv(low - high, -step)
        made.append((maximum(low, 0), maximum(span, 0)))
    return [m[0] for m in made], [m[1] for m in made]


def _place(bound: Expr, size: Expr, step: int) -> Expr | None:
    """A bound counted from the front and clamped; None when its sign is open."""
    least, most = (ZERO, size) if step > 0 else (as_expr(-1), size - 1)
    number = bound.constant
    if number is not None and abs(number) >= OPEN:
        return most if number > 0 else least
    if is_less(bound, 0):
        return maximum(least, bound + size)
    return minimum(most, bound) if is_at_least(bound, 0) else None


def _decided_bounds(
    b: Builder, starts: Value, ends: Value, sizes: list[Expr], steps: list[int]
) -> tuple[list[Expr], list[Expr]]:
    """Bounds that the run decides, computed by operators as in :func:`_known_bounds`."""
    total, forward = b.sizes(sizes, starts.dtype), [s > 0 for s in steps]
    least = b.sizes([0 if f else -1 for f in forward], starts.dtype)
    most = b.sizes([n if f else n - 1 for n, f in zip(sizes, forward, strict=True)], starts.dtype)

    def place(bound: Value) -> Value:
        from_front = b.map("where", b.map("lt", bound, 0), b.map("add", bound, total), bound)
        return b.map("min", b.map("max", from_front, least), most)

    first, last = place(starts), place(ends)
    stride = b.sizes(steps, starts.dtype)
    up = b.sizes([s - (1 if s > 0 else -1) for s in steps], starts.dtype)
    span = b.map("div", b.map("add", b.map("sub", last, first), up), stride)
    counts = b.dims_from(b.map("max", span, 0), sizes)
    return list(b.dims_from(b.map("max", first, 0), sizes)), list(counts)

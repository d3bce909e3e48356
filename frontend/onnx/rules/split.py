"""Split: one tensor into several along an axis."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import ZERO, Expr, ExprLike, as_expr, ceildiv
from tapeout.ir.shapes import check_axis, never_equal


@rule("Split")
def split(b: Builder, node: Call, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    """Parts of the given sizes, or equal ones of which the last may be smaller."""
    axis = check_axis(node.integer("axis"), x.rank, "Split")
    if sizes is not None:
        return parts(b, x, axis, _adding_up(node, x.dims[axis], b.dims_from(sizes)))
    if node.has("split"):
        given = [as_expr(n) for n in node.integers("split")]
        return parts(b, x, axis, _adding_up(node, x.dims[axis], given))
    count = node.integer("num_outputs", node.outputs)
    if count < 1:
        node.invalid("num_outputs is not positive", ("num_outputs", count))
    size = ceildiv(x.dims[axis], count)
    return parts(b, x, axis, [*[size] * (count - 1), x.dims[axis] - size * (count - 1)])


def _adding_up(node: Call, total: Expr, sizes: Sequence[Expr]) -> Sequence[Expr]:
    """The sizes of parts; E0310 when they cannot make up the whole."""
    if never_equal(total, sum(sizes, ZERO)):
        node.invalid(
            "the parts do not add up",
            ("parts", ", ".join(map(str, sizes))),
            ("size", total),
        )
    return sizes


def parts(b: Builder, x: Value, axis: int, sizes: Sequence[ExprLike]) -> tuple[Value, ...]:
    """Consecutive slices of these sizes."""
    made: list[Value] = []
    start: ExprLike = 0
    for size in sizes:
        made.append(b.slice_axis(x, axis, start, size))
        start = start + size
    return tuple(made)

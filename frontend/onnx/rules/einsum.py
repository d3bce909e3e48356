"""Einsum, as transposes and products of two operands at a time; determinants."""

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import all_given
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import ExprLike, as_expr, product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.index import GatherElementsOp
from tapeout.ir.ops.linalg import DetOp
from tapeout.ir.shapes import broadcast


@rule("Det", since=11)
def det(b: Builder, node: Call, x: Value) -> Value:
    """The determinant of each matrix."""
    return b.make(DetOp, x)


@dataclass(frozen=True, eq=False)
class Term:
    """A tensor with one label for each axis, none twice.

    A label is a letter, or for an axis of the ellipsis its number from the back: ``.0``, ``.1``.
    """

    value: Value
    labels: tuple[str, ...]


@rule("Einsum", since=12)
def einsum(b: Builder, node: Call, *given: Value | None) -> Value:
    """The sum of products that ``equation`` names; operands are taken in from left to right."""
    xs = all_given(node, given)
    inputs, output = _parsed(node, [x.rank for x in xs])
    terms = [_without_repeats(b, x, labels) for x, labels in zip(xs, inputs, strict=True)]
    total = terms[0]
    for i, term in enumerate(terms[1:], 1):
        later = {label for each in terms[i + 1 :] for label in each.labels}
        total = _contracted(b, total, term, later | set(output))
    total = _summed(b, total, set(output))
    return _permuted(b, total, output).value


def _parsed(node: Call, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of each operand and of the result."""
    equation = node.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        node.invalid("the equation has another number of operands", ("equation", equation))
    inputs = [_labels(node, p, rank) for p, rank in zip(parts, ranks, strict=True)]
    every = [label for labels in inputs for label in labels]
    dots = sorted({v for v in every if v[0] == "."}, key=lambda v: -int(v[1:]))
    if arrow:
        output = _labels(node, right, len(right.replace("...", "")) + len(dots) * ("..." in right))
    else:
        output = (*dots, *sorted({v for v in every if v[0] != "." and every.count(v) == 1}))
    if set(output) - set(every) or len(set(output)) != len(output):
        node.invalid("the result's labels are not the operands'", ("equation", equation))
    return inputs, output


def _labels(node: Call, part: str, rank: int) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    letters = before + after
    open_axes = rank - len(letters)
    fits = open_axes >= 0 if dots else open_axes == 0
    if not fits or not all(c.isascii() and c.isalpha() for c in letters):
        node.invalid("a term of the equation does not fit", ("term", part), ("rank", rank))
    return (*before, *(f".{i}" for i in reversed(range(open_axes))), *after)


def _without_repeats(b: Builder, x: Value, labels: Sequence[str]) -> Term:
    """Diagonals along labels that stand twice."""
    kept = list(labels)
    for label in dict.fromkeys(labels):
        while kept.count(label) > 1:
            first = kept.index(label)
            second = kept.index(label, first + 1)
            x = _diagonal(b, x, first, second)
            del kept[second]
    return Term(x, tuple(kept))


def _diagonal(b: Builder, x: Value, first: int, second: int) -> Value:
    """``x`` where the places along two axes are equal; the second axis goes."""
    dims: list[ExprLike] = [1 if i == second else d for i, d in enumerate(x.dims)]
    places = b.iota([x.dims[first] if i == first else 1 for i in range(x.rank)], first)
    picked = b.make(GatherElementsOp, x, b.expand(places, dims), axis=second)
    return b.reshape(picked, [d for i, d in enumerate(x.dims) if i != second])


def _summed(b: Builder, term: Term, wanted: set[str]) -> Term:
    """The term summed over labels that nothing reads any more."""
    gone = [i for i, label in enumerate(term.labels) if label not in wanted]
    if not gone:
        return term
    kept = tuple(label for label in term.labels if label in wanted)
    return Term(b.reduce("sum", term.value, gone), kept)


def _permuted(b: Builder, term: Term, order: Sequence[str]) -> Term:
    """The axes in this order; a label that the term lacks becomes an axis of size 1."""
    present = [label for label in order if label in term.labels]
    moved = b.transpose(term.value, [term.labels.index(label) for label in present])
    sizes = dict(zip(present, moved.dims, strict=True))
    return Term(b.reshape(moved, [sizes.get(label, as_expr(1)) for label in order]), tuple(order))


def _contracted(b: Builder, left: Term, right: Term, wanted: set[str]) -> Term:
    """The product of two terms, summed over labels that nothing else reads."""
    left = _summed(b, left, wanted | set(right.labels))
    right = _summed(b, right, wanted | set(left.labels))
    shared = [label for label in left.labels if label in right.labels]
    batch = [label for label in shared if label in wanted]
    inner = [label for label in shared if label not in wanted]
    rows = [label for label in left.labels if label not in shared]
    columns = [label for label in right.labels if label not in shared]
    a = _permuted(b, left, [*batch, *rows, *inner]).value
    c = _permuted(b, right, [*batch, *columns, *inner]).value
    n, m, k = len(batch), len(rows), len(columns)
    inner_dims = broadcast(a.dims[n + m :], c.dims[n + k :])
    a = b.expand(a, [*a.dims[: n + m], *inner_dims])
    c = b.expand(c, [*c.dims[: n + k], *inner_dims])
    depth = product(inner_dims)
    flat = b.make(
        MatmulOp,
        b.reshape(a, [*a.dims[:n], product(a.dims[n : n + m]), depth]),
        b.reshape(c, [*c.dims[:n], product(c.dims[n : n + k]), depth]),
        transpose_b=True,
    )
    made = b.reshape(flat, [*flat.dims[:n], *a.dims[n : n + m], *c.dims[n : n + k]])
    return Term(made, (*batch, *rows, *columns))

"""Rules of views: where an element lies before a transpose, reshape, slice, pad or concat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr
from tapeout.ir.ops.views import ConcatOp, ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Index, Pairs, Shape, broadcast_index, number
from tapeout.passes.tile.rules.lookup import folded

if TYPE_CHECKING:
    from tapeout.passes.tile.pull import Pull


def transpose(pull: Pull, op: TransposeOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The operand's axes in their own order."""
    places = {p: i for i, p in enumerate(op.perm.data)}
    return pull.at(op.x, [index[places[a]] for a in range(len(index))], shape, bounds)


def concat(pull: Pull, op: ConcatOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The operand in which the index falls; the others are read nowhere."""
    b = pull.builder
    axis: int = op.axis.data % spec(op.y).rank
    total: SSAValue | None = None
    offset = ZERO
    for x in op.xs:
        size, here = spec(x).dims[axis], index[axis] - offset
        moved = (*index[:axis], here, *index[axis + 1 :])
        if total is None:
            total = pull.within(x, moved, shape, bounds, ((here, size),))
        elif size != 0:
            tile = pull.within(x, moved, shape, bounds, ((here, size),))
            after = b.map("ge", number(b, here, shape), number(b, ZERO))
            total = b.map("where", after, tile, total)
        offset = offset + size
    assert total is not None, "concat has an operand"
    return total


def expand(pull: Pull, op: ExpandOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """An axis that was repeated has one place."""
    return pull.at(op.x, broadcast_index(op.x, index), shape, bounds)


def slice_(pull: Pull, op: SliceOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """From where the slice starts, in its steps."""
    moved = [s + i * d for s, i, d in zip(op.starts.data, index, op.steps.data, strict=True)]
    return pull.at(op.x, moved, shape, bounds)


def reshape(pull: Pull, op: ReshapeOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """By the element's place in row-major order."""
    return pull.at(op.x, reshaped_index(op, index), shape, bounds)


def reshaped_index(op: ReshapeOp, index: Index) -> Index:
    """The operand's index of one element of a reshape.

    Axes are matched from the back in runs of equal element count, so that an axis that stays
    keeps its plain index and only those that split or merge get arithmetic.
    """
    have, want = list(spec(op.x).dims), list(spec(op.y).dims)
    result: list[Expr] = []
    at = list(index)
    while have:
        source_run, target_run = [have.pop()], list[Expr]()
        target_size, source_size = as_expr(1), source_run[0]
        while target_size != source_size:
            if want and _divides(target_size * want[-1], source_size):
                target_run.append(want.pop())
                target_size = target_size * target_run[-1]
            elif have:
                source_run.append(have.pop())
                source_size = source_size * source_run[-1]
            elif want:
                target_run.append(want.pop())
                target_size = target_size * target_run[-1]
            else:
                break
        flat, scale = ZERO, as_expr(1)
        for dim in target_run:
            flat, scale = flat + at.pop() * scale, scale * dim
        for position, dim in enumerate(source_run):
            last = position == len(source_run) - 1
            result.append(flat if last else flat % dim)
            flat = flat if last else flat // dim
    return tuple(reversed(result))


def _divides(part: Expr, whole: Expr) -> bool:
    return (whole % part) == 0


def pad(pull: Pull, op: PadOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    """The operand where the index falls into it, elsewhere the value of the border."""
    if op.mode.data != "constant":
        return folded(pull, op, index, shape, bounds)
    ends = list(zip(op.low.data, op.high.data, strict=True))
    moved = [i - low for i, (low, _) in zip(index, ends, strict=True)]
    padded = [
        (m, d)
        for m, d, (low, high) in zip(moved, spec(op.x).dims, ends, strict=True)
        if low != 0 or high != 0
    ]
    inner = pull.at(op.x, moved, shape, (*bounds, *padded))
    if not padded or (op.x in pull.buffers and op.value is None):
        return inner  # a load gives 0 outside of its bounds
    inside = _all_inside(pull, padded, shape)
    if op.value is None:
        border = pull.builder.full(0, (1,) * len(shape), spec(op.x).dtype)
    else:
        border = pull.at(op.value, (), shape)
    return pull.builder.map("where", inside, inner, border)


def _all_inside(pull: Pull, pairs: list[tuple[Expr, Expr]], shape: Shape) -> SSAValue:
    b = pull.builder
    inside: SSAValue | None = None
    for e, n in pairs:
        at = b.index(e, shape)
        low = b.map("ge", at, b.index(ZERO, shape))
        both = b.map("and", low, b.map("lt", at, b.index(n, shape)))
        inside = both if inside is None else b.map("and", inside, both)
    assert inside is not None, "some axis is padded"
    return inside

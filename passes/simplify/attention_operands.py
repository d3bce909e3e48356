"""Keys, values and masks of attention, brought to the least that says the same."""

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import ONE, Expr, is_at_least
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.views import ExpandOp, ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.match import HIDDEN, made_by, number, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement
from tapeout.passes.simplify.positions import distance_of


class SharedHeads(Pattern[AttentionOp]):
    """Keys and values that repeat each head for a group of queries need no repeating."""

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        k, v = _before_repeat(op.k), _before_repeat(op.v)
        if k is None or v is None or spec(k).dims[:3] != spec(v).dims[:3]:
            return None
        return edit.add(AttentionOp, op.q, k, v, op.mask, **op.attrs())


def _before_repeat(value: SSAValue) -> SSAValue | None:
    """``x [B, G, T, D]`` when ``value`` is each head of it ``R`` times: ``[B, G * R, T, D]``."""
    merged = made_by(value, ReshapeOp)
    repeated = made_by(merged.x, ExpandOp) if merged is not None else None
    parted = made_by(repeated.x, ReshapeOp) if repeated is not None else None
    if repeated is None or parted is None or spec(parted.x).rank != 4:
        return None
    batch, groups, keys, depth = spec(parted.x).dims
    wide = spec(repeated.y).dims
    if len(wide) != 5 or spec(parted.y).dims != (batch, groups, ONE, keys, depth):
        return None
    if (wide[0], wide[1], *wide[3:]) != (batch, groups, keys, depth):
        return None
    return parted.x if spec(value).dims == (batch, groups * wide[2], keys, depth) else None


class BooleanMask(Pattern[AttentionOp]):
    """Adding ``where(c, 0, -inf)`` is keeping where ``c``; ``where(c, -inf, 0)`` where not."""

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        chosen = operands_of(op.mask, "where") if op.mask is not None else None
        if chosen is None:
            return None
        match number(edit, chosen[1]), number(edit, chosen[2]):
            case (0.0, low) if low is not None and np.isneginf(low):
                mask = chosen[0]
            case (low, 0.0) if low is not None and np.isneginf(low):
                mask = edit.map("not", chosen[0])
            case _:
                return None
        return edit.add(AttentionOp, op.q, op.k, op.v, mask, **op.attrs())


class EmptyMask(Pattern[AttentionOp]):
    """A mask that adds 0 everywhere, or keeps everything, is none."""

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        if op.mask is None:
            return None
        keep = 1.0 if spec(op.mask).dtype is boolean else 0.0
        if number(edit, op.mask) != keep:
            return None
        return edit.add(AttentionOp, op.q, op.k, op.v, None, **op.attrs())


class RepeatedMask(Pattern[AttentionOp]):
    """``attention(mask=expand(m)) = attention(mask=m)``: a mask repeats by itself."""

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        inner = made_by(op.mask, ExpandOp)
        if inner is None:
            return None
        return edit.add(AttentionOp, op.q, op.k, op.v, inner.x, **op.attrs())


class CausalMask(Pattern[AttentionOp]):
    """A fixed mask that hides just the keys behind each query is ``causal``."""

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        array = edit.array(op.mask)
        if op.mask is None or array is None or op.causal.data or not _square(op):
            return None
        if array.size != array.shape[-1] * array.shape[-2] or array.shape[-1] == 1:
            return None
        grid = array.reshape(array.shape[-2:])
        seen = grid if grid.dtype == np.bool_ else grid == 0
        hidden = ~grid if grid.dtype == np.bool_ else grid <= HIDDEN
        below = np.tri(*grid.shape, dtype=np.bool_)
        if not np.array_equal(seen, below) or not np.array_equal(hidden, ~below):
            return None
        attrs = op.attrs() | {"causal": True}
        return edit.add(AttentionOp, op.q, op.k, op.v, None, **attrs)


class CausalPositions(Pattern[AttentionOp]):
    """A mask that compares the positions of key and query is ``causal`` with an offset.

    One that hides by a finite number averages where a query sees no key: left alone unless
    every query sees its first key.
    """

    root = AttentionOp

    def _rewrite(self, op: AttentionOp, edit: Edit) -> Replacement:
        if op.mask is None or op.causal.data or not _square(op):
            return None
        offset, finite = _visible(op.mask, edit)
        if offset is None or (finite and not is_at_least(offset, 0)):
            return None
        attrs = op.attrs() | {"causal": True, "causal_offset": (offset,)}
        return edit.add(AttentionOp, op.q, op.k, op.v, None, **attrs)


def _visible(mask: SSAValue, edit: Edit) -> tuple[Expr | None, bool]:
    """``(c, finite)`` when the mask shows query ``i`` the keys ``j <= i + c``."""
    chosen = operands_of(mask, "where")
    if chosen is None:
        return _offset(mask, edit), False
    low = number(edit, chosen[2])
    if number(edit, chosen[1]) != 0 or low is None or low > HIDDEN:
        return None, False
    return _offset(chosen[0], edit), not np.isneginf(low)


def _offset(condition: SSAValue, edit: Edit) -> Expr | None:
    """``c`` when the condition is ``j <= i + c`` in its last two indices ``i, j``."""
    test = made_by(condition, MapOp)
    if test is None or test.fn.data not in ("le", "lt", "ge", "gt"):
        return None
    distance = distance_of(test, edit)
    if distance is None:
        return None
    # ``d <= 0`` for ``le``; ``-d <= 0`` for ``ge``; one less for the strict ones.
    sign = 1 if test.fn.data in ("le", "lt") else -1
    steps = tuple(sign * s for s in distance.steps)
    if len(steps) < 2 or steps[-2:] != (-1, 1) or any(steps[:-2]):
        return None
    return -(distance.base * sign) - (test.fn.data in ("lt", "gt"))


def _square(op: AttentionOp) -> bool:
    """Whether the mask spans queries and keys, rather than repeat along one of them."""
    assert op.mask is not None, "asked of a mask"
    dims = spec(op.mask).dims
    want: tuple[Expr, ...] = (spec(op.q).dims[2], spec(op.k).dims[2])
    return len(dims) >= 2 and dims[-2:] == want


PATTERNS = (
    *(SharedHeads(), BooleanMask(), EmptyMask(), RepeatedMask()),
    *(CausalMask(), CausalPositions()),
)

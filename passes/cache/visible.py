"""Which keys a token sees, read from the mask that an exporter wrote."""

from __future__ import annotations

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, Expr, is_at_least
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.types import spec
from tapeout.passes.match import HIDDEN, behind_repeats, number, operands_of
from tapeout.passes.rewrite import Edit
from tapeout.passes.simplify.positions import distance_of

FLIPPED = {"le": "gt", "lt": "ge", "ge": "lt", "gt": "le"}


def window_of(op: AttentionOp, past: Expr, edit: Edit) -> int | None:
    """How many keys up to its own a query sees, 0 for all; None when the mask says another thing.

    Query ``i`` is token ``past + i``, key ``j`` token ``j``: it has to see ``j <= past + i``, or of
    these just the last ``window``.
    """
    bounds = _Bounds(past, single=spec(op.q).dims[2] == ONE)
    if op.causal.data:
        bounds.add_limit(op.causal_offset.data[0])
    if op.mask is not None and not bounds.read(_condition(op.mask, edit), edit):
        return None
    return bounds.window if bounds.causal else None


def _condition(mask: SSAValue, edit: Edit) -> SSAValue:
    """The condition behind ``where(c, 0, hidden)``; the mask itself where it is none."""
    chosen = operands_of(behind_repeats(mask), "where")
    if chosen is None or number(edit, chosen[1]) != 0:
        return mask
    low = number(edit, chosen[2])
    return chosen[0] if low is not None and low <= HIDDEN else mask


class _Bounds:
    """What conditions that all have to hold leave to see."""

    def __init__(self, past: Expr, single: bool) -> None:
        # A single query is the last token: nothing stands behind it that it could see.
        self.past, self.causal, self.window = past, single, 0
        self.query = 0 if single else 1

    def add_limit(self, offset: Expr) -> bool:
        """Take ``j <= i + offset``; False when that hides one of the keys up to the query's own."""
        self.causal |= offset == self.past
        return is_at_least(offset - self.past, 0)

    def read(self, condition: SSAValue, edit: Edit, holds: bool = True) -> bool:
        """Take a condition that has to hold (or not to); False when it cannot be read."""
        fixed = number(edit, condition)
        if fixed is not None:
            return bool(fixed) == holds
        condition = behind_repeats(condition)
        both, none = operands_of(condition, "and"), operands_of(condition, "not")
        if both is not None and holds:
            return all(self.read(each, edit) for each in both)
        if none is not None:
            return self.read(none[0], edit, not holds)
        test = condition.owner
        return isinstance(test, MapOp) and test.fn.data in FLIPPED and self._test(test, edit, holds)

    def _test(self, test: MapOp, edit: Edit, holds: bool) -> bool:
        """Take a comparison of positions: as ``d <= 0`` in the last two indices."""
        distance = distance_of(test, edit)
        if distance is None:
            return False
        fn = test.fn.data if holds else FLIPPED[test.fn.data]
        sign = 1 if fn in ("le", "lt") else -1
        base = distance.base * sign + (fn in ("lt", "gt"))
        steps = tuple(sign * s for s in distance.steps)
        if len(steps) < 2 or any(steps[:-2]):
            return False
        if steps[-2:] == (-self.query, 1):
            return self.add_limit(-base)
        if steps[-2:] != (self.query, -1):
            return False
        # past + i - j < window
        window = (self.past + 1 - base).constant
        if window is None or window < 1:
            return False
        self.window = min(self.window, window) if self.window else window
        return True

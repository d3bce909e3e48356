"""Comparisons of positions that hold for every index: exporters build masks out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, as_expr, is_at_least
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import CumulativeOp
from tapeout.ir.ops.source import DimValuesOp, IotaOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.match import number
from tapeout.passes.rewrite import Edit, Pattern, Replacement

Array = np.ndarray[Any, Any]

# Deep enough for the chains that exporters write.
_DEPTH = 24


@dataclass(frozen=True)
class Positions:
    """An integer tensor whose element at index ``i`` is ``base + sum(steps[a] * i[a])``."""

    base: Expr
    steps: tuple[int, ...]

    def over(self, rank: int) -> "Positions":
        """With leading axes that repeat, up to ``rank``."""
        return Positions(self.base, (0,) * (rank - len(self.steps)) + self.steps)

    def plus(self, other: "Positions", factor: int) -> "Positions":
        """``self + factor * other``, broadcast."""
        rank = max(len(self.steps), len(other.steps))
        pairs = zip(self.over(rank).steps, other.over(rank).steps, strict=True)
        return Positions(self.base + other.base * factor, tuple(a + factor * b for a, b in pairs))

    def range(self, dims: Sequence[Expr]) -> tuple[Expr, Expr]:
        """The least and the greatest element over a shape."""
        low = high = self.base
        for step, size in zip(self.steps, dims, strict=True):
            reach = (size - 1) * step
            low, high = (low, high + reach) if step > 0 else (low + reach, high)
        return low, high


def positions(value: SSAValue, edit: Edit, depth: int = _DEPTH) -> Positions | None:
    """How an integer value follows from its indices, where that is affine."""
    want = spec(value)
    if not depth or not want.dtype.is_integer:
        return None
    fixed = number(edit, value)
    if fixed is not None:
        return Positions(as_expr(int(fixed)), (0,) * want.rank)
    found = _by_owner(value, edit, depth - 1)
    if found is None:
        return None
    kept = zip(found.steps, want.dims, strict=True)
    return Positions(found.base, tuple(0 if d == ONE else s for s, d in kept))


def _by_owner(value: SSAValue, edit: Edit, depth: int) -> Positions | None:
    rank = spec(value).rank
    match value.owner:
        case IotaOp() as op:
            return Positions(ZERO, tuple(int(a == op.axis.data % rank) for a in range(rank)))
        case DimValuesOp() as op:
            values: tuple[Expr, ...] = op.values.data
            return Positions(values[0], (0,)) if len(values) == 1 else None
        case ConvertOp() as op:
            return _converted(op, edit, depth)
        case MapOp() as op if op.fn.data in ("add", "sub"):
            parts = [positions(x, edit, depth) for x in op.xs]
            if parts[0] is None or parts[1] is None:
                return None
            return parts[0].plus(parts[1], 1 if op.fn.data == "add" else -1).over(rank)
        case ExpandOp() as op:
            inner = positions(op.x, edit, depth)
            return None if inner is None else inner.over(rank)
        case TransposeOp() as op:
            inner = positions(op.x, edit, depth)
            return (
                None
                if inner is None
                else Positions(inner.base, _permuted(inner.steps, op.perm.data))
            )
        case ReshapeOp() as op:
            return _regrouped(op, edit, depth)
        case SliceOp() as op:
            return _sliced(op, edit, depth)
        case ConcatOp() as op:
            return _joined(op, edit, depth)
        case CumulativeOp() as op:
            inner = positions(op.x, edit, depth)
            zero = inner is not None and inner == Positions(ZERO, (0,) * rank)
            return inner if zero and op.fn.data == "sum" else None
        case _:
            return _from_array(value, edit)


def _permuted(steps: tuple[int, ...], perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(steps[p] for p in perm)


def _converted(op: ConvertOp, edit: Edit, depth: int) -> Positions | None:
    """Integers stay what they are; of truth values only fixed ones are known."""
    truth = number(edit, op.x) if spec(op.x).dtype.kind == "bool" else None
    if truth is not None:
        return Positions(as_expr(int(truth)), (0,) * spec(op.y).rank)
    wide = spec(op.y).dtype.bits >= spec(op.x).dtype.bits
    return positions(op.x, edit, depth) if wide else None


def _regrouped(op: ReshapeOp, edit: Edit, depth: int) -> Positions | None:
    """Only axes of size 1 may come and go."""
    inner = positions(op.x, edit, depth)
    have, want = spec(op.x).dims, spec(op.y).dims
    if inner is None or [d for d in have if d != ONE] != [d for d in want if d != ONE]:
        return None
    left = [s for s, d in zip(inner.steps, have, strict=True) if d != ONE]
    return Positions(inner.base, tuple(0 if d == ONE else left.pop(0) for d in want))


def _sliced(op: SliceOp, edit: Edit, depth: int) -> Positions | None:
    inner = positions(op.x, edit, depth)
    if inner is None:
        return None
    base = inner.base
    for step, start in zip(inner.steps, op.starts.data, strict=True):
        base = base + start * step
    strides: tuple[int, ...] = op.steps.data
    return Positions(base, tuple(a * b for a, b in zip(inner.steps, strides, strict=True)))


def _joined(op: ConcatOp, edit: Edit, depth: int) -> Positions | None:
    """Operands that continue one another; the last one sets the step."""
    axis: int = op.axis.data % spec(op.y).rank
    parts = [positions(x, edit, depth) for x in op.xs]
    last = parts[-1]
    if last is None:
        return None
    before = spec(op.y).dims[axis] - spec(op.xs[-1]).dims[axis]
    step = last.steps[axis]
    whole = Positions(last.base - before * step, last.steps)
    offset = ZERO
    for x, part in zip(op.xs, parts, strict=True):
        if part is None or part.base != whole.base + offset * step:
            return None
        same = [a == b for a, b in zip(part.steps, whole.steps, strict=True)]
        if not all(ok or (i == axis and spec(x).dims[i] == ONE) for i, ok in enumerate(same)):
            return None
        offset = offset + spec(x).dims[axis]
    return whole


def _from_array(value: SSAValue, edit: Edit) -> Positions | None:
    array = edit.array(value)
    if array is None or array.size > 1 << 20 or not array.size:
        return None
    sizes: tuple[int, ...] = array.shape
    origin = (0,) * array.ndim
    base = int(array[origin])
    steps: list[int] = []
    line: Array = np.full(sizes, base, np.int64)
    for axis, size in enumerate(sizes):
        next_one = tuple(int(a == axis) for a in range(array.ndim))
        steps.append(int(array[next_one]) - base if size > 1 else 0)
        shape = [size if a == axis else 1 for a in range(array.ndim)]
        along: Array = np.arange(size, dtype=np.int64)
        line = line + steps[-1] * along.reshape(shape)
    return Positions(as_expr(base), tuple(steps)) if np.array_equal(line, array) else None


class DecidedComparison(Pattern[MapOp]):
    """``i < n``, ``i >= 0``, ``i - (i - 1) == 1`` and the like are true, or false, everywhere."""

    root = MapOp
    fns = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        distance = distance_of(op, edit)
        if distance is None:
            return None
        low, high = distance.range(spec(op.y).dims)
        truth = _decided(op.fn.data, low, high)
        if truth is None:
            return None
        return edit.add(ExpandOp, edit.constant(np.asarray(truth)), shape=spec(op.y).dims)


def distance_of(op: MapOp, edit: Edit) -> Positions | None:
    """``a - b`` of the two operands, where both are positions."""
    a = positions(op.xs[0], edit)
    b = positions(op.xs[1], edit) if a is not None else None
    return None if a is None or b is None else a.plus(b, -1).over(spec(op.y).rank)


def _decided(fn: str, low: Expr, high: Expr) -> bool | None:
    """Whether ``d fn 0`` for all ``d`` in ``[low, high]``, or for none."""
    below, above = is_at_least(-1 - high, 0), is_at_least(low, 1)
    not_below, not_above = is_at_least(low, 0), is_at_least(-high, 0)
    zero = not_below and not_above
    true_false = {
        "eq": (zero, below or above),
        "ne": (below or above, zero),
        "lt": (below, not_below),
        "le": (not_above, above),
        "gt": (above, not_above),
        "ge": (not_below, below),
    }[fn]
    return True if true_false[0] else False if true_false[1] else None


PATTERNS = (DecidedComparison(),)

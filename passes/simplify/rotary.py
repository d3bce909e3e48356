"""Rotary position embedding put together again from halves, signs and products."""

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import RotaryOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.views import ConcatOp, ReshapeOp, SliceOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import either_way, made_by, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


@dataclass(frozen=True)
class RecomposeRotary(Pass):
    """Find rotary embeddings; saves a concatenation and three passes over queries and keys."""

    name = "recompose-rotary"

    def apply(self, module: Module) -> None:
        """Rewrite whole rotations, then those of a part of the channels."""
        drive(module, PATTERNS)


class Rotary(Pattern[MapOp]):
    """``x * cos + concat(-x[D/2:], x[:D/2]) * sin = rotary(x, cos[:D/2], sin[:D/2])``.

    The halves of ``cos`` and of ``sin`` must be the same by construction.
    """

    root = MapOp
    fns = frozenset({"add"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for straight, turned in either_way(op.xs):
            pair, other = operands_of(straight, "mul"), operands_of(turned, "mul")
            for x, cos in either_way(pair) if pair is not None else ():
                for swapped, sin in either_way(other) if other is not None else ():
                    if spec(x).rank == 4 and spec(x) == spec(op.y) and _swaps_halves(swapped, x):
                        halves = _half(cos, edit, 12), _half(sin, edit, 12)
                        if halves[0] is not None and halves[1] is not None:
                            return edit.add(RotaryOp, x, *halves)
        return None


def _swaps_halves(value: SSAValue, x: SSAValue) -> bool:
    """Whether ``value`` is ``concat(-x[D/2:], x[:D/2])`` along the last axis."""
    joined = made_by(value, ConcatOp)
    rank, depth = spec(x).rank, spec(x).dims[-1].constant
    if joined is None or len(joined.xs) != 2 or joined.axis.data % rank != rank - 1 or not depth:
        return False
    high = operands_of(joined.xs[0], "neg")
    if high is None or depth % 2:
        return False
    return _is_part(high[0], x, depth // 2, depth // 2) and _is_part(joined.xs[1], x, 0, depth // 2)


def _is_part(value: SSAValue, x: SSAValue, start: int, size: int) -> bool:
    """Whether ``value`` is ``x[..., start : start + size]``."""
    part = made_by(value, SliceOp)
    if part is None or any(s != 1 for s in part.steps.data):
        return False
    if spec(value).dims != (*spec(x).dims[:-1], ZERO + size):
        return False
    first = (ZERO,) * spec(x).rank
    whole = made_by(x, SliceOp)
    if part.x is not x:
        # A slice of a slice has been made one of their common source.
        if whole is None or part.x is not whole.x or any(s != 1 for s in whole.steps.data):
            return False
        first = whole.starts.data
    return part.starts.data == (*first[:-1], first[-1] + start)


def _half(value: SSAValue, edit: Edit, depth: int) -> SSAValue | None:
    """The first half along the last axis, when the second is the same; built anew."""
    rank, size = spec(value).rank, spec(value).dims[-1].constant if spec(value).rank else None
    if not depth or size is None or size % 2:
        return None
    array = edit.array(value)
    if array is not None:
        low, high = np.split(array, 2, -1)
        return edit.constant(low) if np.array_equal(low, high) else None
    match value.owner:
        case ConcatOp() as joined if joined.axis.data % rank == rank - 1 and len(joined.xs) == 2:
            return joined.xs[0] if joined.xs[0] is joined.xs[1] else None
        case MapOp() as op:
            parts = [_half_operand(x, value, edit, depth - 1) for x in op.xs]
            whole = [p for p in parts if p is not None]
            return edit.map(op.fn.data, *whole) if len(whole) == len(parts) else None
        case ConvertOp() as op:
            inner = _half(op.x, edit, depth - 1)
            return None if inner is None else edit.add(ConvertOp, inner, **op.attrs())
        case ReshapeOp() as op if spec(op.x).rank and spec(op.x).dims[-1] == spec(value).dims[-1]:
            inner = _half(op.x, edit, depth - 1)
            shape = (*op.shape.data[:-1], ZERO + size // 2)
            return None if inner is None else edit.add(ReshapeOp, inner, shape=shape)
        case GatherOp() as op if op.axis.data != spec(op.x).rank - 1:
            inner = _half(op.x, edit, depth - 1)
            return None if inner is None else edit.add(GatherOp, inner, op.indices, **op.attrs())
        case _:
            return None


def _half_operand(x: SSAValue, whole: SSAValue, edit: Edit, depth: int) -> SSAValue | None:
    """The half of one operand of a map; one that repeats along the last axis stays."""
    if not spec(x).rank or spec(x).dims[-1] == 1:
        return x
    return _half(x, edit, depth) if spec(x).dims[-1] == spec(whole).dims[-1] else None


class PartialRotary(Pattern[ConcatOp]):
    """``concat(rotary(a), b) = rotary(concat(a, b))`` of the channels of ``a`` only.

    For ``a`` and ``b`` cut from one tensor, where their concatenation is one slice again.
    """

    root = ConcatOp

    def _rewrite(self, op: ConcatOp, edit: Edit) -> Replacement:
        rank = spec(op.y).rank
        if len(op.xs) != 2 or op.axis.data % rank != rank - 1:
            return None
        turned = made_by(op.xs[0], RotaryOp)
        part = made_by(turned.x, SliceOp) if turned is not None else None
        rest = made_by(op.xs[1], SliceOp)
        if turned is None or part is None or rest is None or part.x is not rest.x:
            return None
        size = spec(turned.x).dims[-1].constant
        if size is None or turned.rotary_dim is not None:
            return None
        whole = edit.add(ConcatOp, [turned.x, op.xs[1]], axis=rank - 1)
        attrs = turned.attrs() | {"rotary_dim": size}
        return edit.add(RotaryOp, whole, turned.cos, turned.sin, **attrs)


PATTERNS = (Rotary(), PartialRotary())

"""Identities of operators that only move data."""

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.source import BindDimsOp
from tapeout.ir.ops.views import (
    ConcatOp,
    ExpandOp,
    PadOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from tapeout.ir.types import spec
from tapeout.passes.match import made_by, only_use, swaps_last_two
from tapeout.passes.rewrite import Edit, Pattern, Replacement

View = ReshapeOp | ExpandOp | TransposeOp | SliceOp | PadOp


class NoView(Pattern[View]):
    """A reshape, expansion or slice to the same shape, or a pad by nothing, is its operand."""

    root = ReshapeOp | ExpandOp | SliceOp | PadOp

    def _rewrite(self, op: View, edit: Edit) -> Replacement:
        if spec(op.x) != spec(op.y):
            return None
        # A slice of full size can only start at 0; stepping backwards it still reverses.
        if isinstance(op, SliceOp) and any(
            step < 0 and size != ONE
            for step, size in zip(op.steps.data, op.sizes.data, strict=True)
        ):
            return None
        return op.x


class ReshapeOfReshape(Pattern[ReshapeOp]):
    """``reshape(reshape(x)) = reshape(x)``."""

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, ReshapeOp)
        if inner is None or (spec(inner.x).size != spec(op.y).size and _binds_between(inner, op)):
            return None
        return edit.add(ReshapeOp, inner.x, shape=op.shape.data)


def _binds_between(first: Operation, last: Operation) -> bool:
    """Whether symbols may have another value at ``last`` than they had at ``first``."""
    op = last.prev_op
    while op is not None and op is not first:
        if isinstance(op, BindDimsOp):
            return True
        op = op.prev_op
    return op is None


class TransposeOfTranspose(Pattern[TransposeOp]):
    """``transpose(transpose(x, p), q) = transpose(x, p[q])``; the identity permutation is ``x``."""

    root = TransposeOp

    def _rewrite(self, op: TransposeOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, TransposeOp)
        if inner is not None:
            perm = tuple(inner.perm.data[q] for q in op.perm.data)
            return edit.add(TransposeOp, inner.x, perm=perm)
        return op.x if list(op.perm.data) == sorted(op.perm.data) else None


class TransposeOfOnes(Pattern[TransposeOp]):
    """A permutation that keeps the order of all axes but those of size 1 is a reshape."""

    root = TransposeOp

    def _rewrite(self, op: TransposeOp, edit: Edit) -> Replacement:
        dims = spec(op.x).dims
        wide = [p for p in op.perm.data if dims[p] != ONE]
        if wide != sorted(wide):
            return None
        return edit.add(ReshapeOp, op.x, shape=spec(op.y).dims)


class ReshapeOfMovedOnes(Pattern[ReshapeOp]):
    """``reshape(transpose(x)) = reshape(x)`` when the permutation moves only sizes of 1."""

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, TransposeOp)
        if inner is None:
            return None
        dims = spec(inner.x).dims
        wide = [p for p in inner.perm.data if dims[p] != ONE]
        return edit.add(ReshapeOp, inner.x, shape=op.shape.data) if wide == sorted(wide) else None


class ReshapeOfMerged(Pattern[ReshapeOp]):
    """``reshape(transpose(reshape(x), p)) = reshape(transpose(x, p'))`` when the inner one merges.

    Axes that were merged move together; the order of the elements is the same. Exporters write
    the transposition of a batched matrix so, and then the outer reshape is nothing either.
    """

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        turn = made_by(op.x, TransposeOp)
        merge = made_by(turn.x, ReshapeOp) if turn is not None else None
        if turn is None or merge is None:
            return None
        runs = merged_runs(spec(merge.x).dims, spec(merge.y).dims)
        if runs is None:
            return None
        turned = edit.add(TransposeOp, merge.x, perm=_apart(runs, turn.perm.data))
        return edit.add(ReshapeOp, turned, shape=op.shape.data)


class TransposeOfMerged(Pattern[TransposeOp]):
    """``transpose(reshape(transpose(x, p)), q) = reshape(transpose(x, r))`` for a merging reshape.

    Merged axes move together, so the two permutations meet and are one or none.
    """

    root = TransposeOp

    def _rewrite(self, op: TransposeOp, edit: Edit) -> Replacement:
        merge = made_by(op.x, ReshapeOp)
        first = made_by(merge.x, TransposeOp) if merge is not None else None
        if merge is None or first is None or not only_use(op.x):
            return None
        runs = merged_runs(spec(merge.x).dims, spec(merge.y).dims)
        if runs is None:
            return None
        perm = [first.perm.data[axis] for axis in _apart(runs, op.perm.data)]
        # A shuffle stays one: only a permutation that undoes the first is worth a change.
        if perm != sorted(perm):
            return None
        return edit.add(ReshapeOp, first.x, shape=spec(op.y).dims)


def _apart(runs: Sequence[Sequence[int]], perm: Sequence[int]) -> list[int]:
    """The permutation of single axes that moves whole runs by ``perm``."""
    return [axis for p in perm for axis in runs[p]]


def merged_runs(dims: Sequence[Expr], merged: Sequence[Expr]) -> list[list[int]] | None:
    """For each size of ``merged`` the run of axes of ``dims`` whose product it is, or None."""
    runs: list[list[int]] = []
    axis = 0
    for size in merged:
        run: list[int] = []
        # A size of 1 takes the axis that stands for it, if there is one.
        while axis < len(dims) and (
            product(dims[a] for a in run) != size or (not run and dims[axis] == ONE)
        ):
            run.append(axis)
            axis += 1
        if product(dims[a] for a in run) != size:
            return None
        runs.append(run)
    if any(d != ONE for d in dims[axis:]):
        return None
    if runs:
        runs[-1].extend(range(axis, len(dims)))
    return runs


class ExpandOfExpand(Pattern[ExpandOp]):
    """``expand(expand(x)) = expand(x)``."""

    root = ExpandOp

    def _rewrite(self, op: ExpandOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, ExpandOp)
        return None if inner is None else edit.add(ExpandOp, inner.x, shape=op.shape.data)


class ExpandByOnes(Pattern[ExpandOp]):
    """An expansion that adds only axes of size 1 is a reshape."""

    root = ExpandOp

    def _rewrite(self, op: ExpandOp, edit: Edit) -> Replacement:
        have, want = spec(op.x).dims, spec(op.y).dims
        padded = (ONE,) * (len(want) - len(have)) + have
        return edit.add(ReshapeOp, op.x, shape=want) if padded == want else None


class ExpandedOperand(Pattern[MapOp]):
    """``f(expand(x), y) = f(x, y)`` when ``y`` is as wide: a map repeats operands by itself."""

    root = MapOp

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for i, x in enumerate(op.xs):
            inner = made_by(x, ExpandOp)
            if inner is None:
                continue
            xs = [*op.xs[:i], inner.x, *op.xs[i + 1 :]]
            if MapOp.infer(tuple(map(spec, xs)), fn=op.fn.data) == spec(op.y):
                return edit.map(op.fn.data, *xs)
        return None


class MapOfExpanded(Pattern[MapOp]):
    """``f(expand(x)) = expand(f(x))`` for one operand: compute before repeating."""

    root = MapOp

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        wide = [x for x in op.xs if edit.array(x) is None or spec(x).rank]
        inner = made_by(wide[0], ExpandOp) if len(wide) == 1 else None
        if inner is None or not only_use(inner.y):
            return None
        xs = [inner.x if x is inner.y else x for x in op.xs]
        return edit.add(ExpandOp, edit.map(op.fn.data, *xs), shape=inner.shape.data)


class ConvertOfExpanded(Pattern[ConvertOp]):
    """``convert(expand(x)) = expand(convert(x))``: fewer elements are converted."""

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, ExpandOp)
        if inner is None:
            return None
        made = edit.add(ConvertOp, inner.x, to=op.to.data, saturate=op.saturate.data)
        return edit.add(ExpandOp, made, shape=spec(op.y).dims)


class SliceOfSlice(Pattern[SliceOp]):
    """``x[a][b] = x[a + b * step]``."""

    root = SliceOp

    def _rewrite(self, op: SliceOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, SliceOp)
        if inner is None:
            return None
        near = zip(inner.starts.data, op.starts.data, inner.steps.data, strict=True)
        starts = tuple(a + b * step for a, b, step in near)
        steps = tuple(a * b for a, b in zip(inner.steps.data, op.steps.data, strict=True))
        return edit.add(SliceOp, inner.x, starts=starts, sizes=op.sizes.data, steps=steps)


class SliceOfConcat(Pattern[SliceOp]):
    """A slice that is exactly one operand of a concatenation is that operand."""

    root = SliceOp

    def _rewrite(self, op: SliceOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, ConcatOp)
        if inner is None or any(s != 1 for s in op.steps.data):
            return None
        axis: int = inner.axis.data % spec(op.x).rank
        start: Expr = op.starts.data[axis]
        at = ZERO
        for x in inner.xs:
            if at == start and spec(x) == spec(op.y):
                others = [s for i, s in enumerate(op.starts.data) if i != axis]
                return x if all(s == 0 for s in others) else None
            at = at + spec(x).dims[axis]
        return None


class FlatConcat(Pattern[ConcatOp]):
    """``concat(x) = x``; ``concat(concat(a, b), c) = concat(a, b, c)``; empty operands go."""

    root = ConcatOp

    def _rewrite(self, op: ConcatOp, edit: Edit) -> Replacement:
        axis: int = op.axis.data % spec(op.y).rank
        flat: list[SSAValue] = []
        for x in op.xs:
            inner = made_by(x, ConcatOp)
            same = inner is not None and inner.axis.data % spec(op.y).rank == axis
            joined = inner is not None and same and only_use(x)
            flat.extend(inner.xs if inner is not None and joined else [x])
        kept = [x for x in flat if spec(x).dims[axis] != 0]
        if len(kept) == 1:
            return kept[0]
        if not kept or kept == list(op.xs):
            return None
        return edit.add(ConcatOp, kept, axis=axis)


class ConcatOfSlices(Pattern[ConcatOp]):
    """``concat(x[a:b], x[b:c]) = x[a:c]``."""

    root = ConcatOp

    def _rewrite(self, op: ConcatOp, edit: Edit) -> Replacement:
        axis: int = op.axis.data % spec(op.y).rank
        parts = [p for x in op.xs if (p := made_by(x, SliceOp)) is not None]
        if len(parts) != len(op.xs) or len({id(p.x) for p in parts}) != 1:
            return None
        first = parts[0]
        end: Expr = first.starts.data[axis]
        for part in parts:
            same = all(
                part.starts.data[i] == first.starts.data[i]
                for i in range(len(part.steps.data))
                if i != axis
            )
            if not same or part.starts.data[axis] != end or any(s != 1 for s in part.steps.data):
                return None
            end = end + part.sizes.data[axis]
        return edit.add(
            SliceOp,
            first.x,
            starts=first.starts.data,
            sizes=spec(op.y).dims,
            steps=first.steps.data,
        )


class MatmulOfTransposed(Pattern[MatmulOp]):
    """``a @ transpose(b) = matmul(a, b, transpose_b)``, and back again."""

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        inner = made_by(op.b, TransposeOp)
        if inner is None or not swaps_last_two(inner):
            return None
        attrs = op.attrs() | {"transpose_b": not op.transpose_b.data}
        return edit.add(MatmulOp, op.a, inner.x, **attrs)


PATTERNS = (
    *(NoView(), ReshapeOfReshape(), TransposeOfTranspose(), TransposeOfOnes()),
    *(
        ReshapeOfMovedOnes(),
        ReshapeOfMerged(),
        TransposeOfMerged(),
        ExpandOfExpand(),
        ExpandByOnes(),
    ),
    *(ExpandedOperand(), MapOfExpanded(), SliceOfSlice(), SliceOfConcat(), FlatConcat()),
    *(ConvertOfExpanded(), ConcatOfSlices(), MatmulOfTransposed()),
)

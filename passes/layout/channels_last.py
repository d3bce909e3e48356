"""Convolutions run channels-last; the transpositions that this needs end at the graph's edges.

Every convolution is put between a transposition of its input and one of its result. The second
kind then *sinks*: it moves below whatever reads it until it meets one of the first kind, or a
place where it can go no further.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, Expr
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.reduce import ArgReduceOp, CumulativeOp, ReduceOp
from tapeout.ir.ops.resample import ResizeOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by
from tapeout.passes.rewrite import Edit, OpT, Pattern, Replacement, drive
from tapeout.passes.simplify.views import TransposeOfOnes, TransposeOfTranspose, merged_runs

Perm = tuple[int, ...]


@dataclass(frozen=True)
class ChannelsLast(Pass):
    """Run every convolution, and the pools around them, with channels innermost.

    Saves the strided loads of channels-first: the innermost axis is contiguous, as long as a
    vector, and the same for the maps in between.
    """

    name = "channels-last"

    def apply(self, module: Module) -> None:
        """Turn the convolutions, then sink what their results need."""
        sunk: set[SSAValue] = set()
        if drive(module, [TurnConv(sunk)]):
            sunk.update(_restored(module))
            drive(module, (*(rule(sunk) for rule in SINKS), TransposeOfTranspose()))
            drive(module, (TransposeOfTranspose(), TransposeOfOnes()))


def _restored(module: Module) -> list[SSAValue]:
    """What the model itself turns from channels-last to channels-first: that sinks as well."""
    turns = [op for op in module.ir.walk() if isinstance(op, TransposeOp)]
    return [t.y for t in turns if len(t.perm.data) > 3 and t.perm.data == _first(len(t.perm.data))]


@dataclass(frozen=True)
class _Sink(Pattern[OpT]):
    """A rule that moves a transposition of ``sunk`` below its reader."""

    sunk: set[SSAValue]

    def above(self, value: SSAValue) -> TransposeOp | None:
        """The transposition that made ``value``, when it is one that sinks."""
        return made_by(value, TransposeOp) if value in self.sunk else None

    def below(self, value: SSAValue, perm: Sequence[int], edit: Edit) -> SSAValue:
        """``value`` transposed by a transposition that sinks on."""
        if list(perm) == sorted(perm):
            return value
        turned = edit.add(TransposeOp, value, perm=tuple(perm))
        self.sunk.add(turned)
        return turned


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes ``perm``."""
    found = [0] * len(perm)
    for i, p in enumerate(perm):
        found[p] = i
    return tuple(found)


class TurnConv(_Sink[ConvOp]):
    """``conv(x) = transpose(conv_channels_last(transpose(x)))``."""

    root = ConvOp

    def _rewrite(self, op: ConvOp, edit: Edit) -> Replacement:
        if op.channels_last.data:
            return None
        last = _last(spec(op.x).rank)
        turned = edit.add(TransposeOp, op.x, perm=last)
        attrs = op.attrs() | {"channels_last": True}
        made = edit.add(ConvOp, turned, op.w, op.bias, **attrs)
        return self.below(made, _first(len(last)), edit)


def _last(rank: int) -> Perm:
    """Axis 1 to the end."""
    return (0, *range(2, rank), 1)


def _first(rank: int) -> Perm:
    """The last axis to place 1."""
    return (0, rank - 1, *range(1, rank - 1))


class SinkMerged(_Sink[TransposeOp]):
    """``transpose(transpose(x, p), q)`` is one that sinks on, unless it is none at all."""

    root = TransposeOp

    def _rewrite(self, op: TransposeOp, edit: Edit) -> Replacement:
        inner = self.above(op.x)
        if inner is None:
            return None
        perm = tuple(inner.perm.data[q] for q in op.perm.data)
        return self.below(inner.x, perm, edit)


class SinkPool(_Sink[PoolOp]):
    """``pool(transpose(x)) = transpose(pool_channels_last(x))`` for the channels-last order.

    A transposition of spatial axes only turns the windows.
    """

    root = PoolOp

    def _rewrite(self, op: PoolOp, edit: Edit) -> Replacement:
        turn = self.above(op.x)
        if turn is None or op.channels_last.data:
            return None
        perm, attrs = tuple(turn.perm.data), op.attrs()
        if perm == _first(len(perm)):
            attrs |= {"channels_last": True}
        elif perm[:2] == (0, 1):
            attrs |= _turned_windows(attrs, [p - 2 for p in inverse(perm)[2:]])
        else:
            return None
        return self.below(edit.add(PoolOp, turn.x, **attrs), perm, edit)


def _turned_windows(attrs: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The window attributes with spatial axis ``order[i]`` in place ``i``."""
    n = len(order)
    names = ("kernel", "strides", "dilations", "sizes")
    turned = {name: tuple(attrs[name][i] for i in order) for name in names}
    low, high = attrs["pads"][:n], attrs["pads"][n:]
    return turned | {"pads": tuple(side[i] for side in (low, high) for i in order)}


class SinkUnary(_Sink[NNOp]):
    """``f(transpose(x)) = transpose(f'(x))``: attributes that speak of axes are permuted."""

    root = ConvertOp | PadOp | SliceOp | SoftmaxOp | CumulativeOp | ResizeOp

    def _rewrite(self, op: NNOp, edit: Edit) -> Replacement:
        turn = self.above(op.operands[0])
        if turn is None:
            return None
        perm = tuple(turn.perm.data)
        others = op.arguments()[1:]
        made = edit.add(type(op), turn.x, *others, **_turned_attributes(op, perm))
        return self.below(made, perm, edit)


def _turned_attributes(op: NNOp, perm: Perm) -> dict[str, object]:
    """The attributes of ``op`` for an operand whose axis ``perm[i]`` was axis ``i``."""
    back, n = inverse(perm), len(perm)
    attrs = op.attrs()
    for name in ("low", "high", "starts", "sizes", "steps", "scales"):
        if attrs.get(name) is not None:
            attrs[name] = tuple(attrs[name][back[i]] for i in range(n))
    if attrs.get("roi") is not None:
        attrs["roi"] = tuple(attrs["roi"][side * n + back[i]] for side in (0, 1) for i in range(n))
    if "axis" in attrs:
        attrs["axis"] = perm[attrs["axis"] % n]
    return attrs


class SinkReduce(_Sink[NNOp]):
    """``reduce(transpose(x), axes) = transpose(reduce(x, axes'))`` of the axes that stay."""

    root = ReduceOp | ArgReduceOp

    def _rewrite(self, op: NNOp, edit: Edit) -> Replacement:
        turn = self.above(op.operands[0])
        if turn is None:
            return None
        perm, attrs = tuple(turn.perm.data), op.attrs()
        named = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
        gone = {perm[a % len(perm)] for a in named}
        attrs |= {"axes": tuple(sorted(gone))} if "axes" in attrs else {"axis": min(gone)}
        made = edit.add(type(op), turn.x, **attrs)
        if attrs["keepdims"]:
            return self.below(made, perm, edit)
        kept = [p for p in perm if p not in gone]
        return self.below(made, [sorted(kept).index(p) for p in kept], edit)


class SinkMap(_Sink[NNOp]):
    """``f(transpose(x), transpose(y), c) = transpose(f(x, y, c'))``.

    Other operands are turned back: constants and sizes of 1 at no cost, the rest only when
    fewer than the transpositions that go.
    """

    root = MapOp | ConcatOp

    def _rewrite(self, op: NNOp, edit: Edit) -> Replacement:
        turns = [t for x in op.operands if (t := self.above(x)) is not None]
        rank = spec(op.results[0]).rank
        full = [t for t in turns if len(t.perm.data) == rank]
        perms = {tuple(t.perm.data) for t in full}
        if len(perms) != 1:
            return None
        perm = perms.pop()
        paid = [x for x in op.operands if self.above(x) is None and not _is_free(x, perm, edit)]
        if paid and len(paid) >= len(full):
            return None
        xs = [self.back(x, perm, edit) for x in op.operands]
        attrs = op.attrs()
        if isinstance(op, ConcatOp):
            attrs["axis"] = perm[attrs["axis"] % rank]
        return self.below(edit.add(type(op), xs, **attrs), perm, edit)

    def back(self, x: SSAValue, perm: Perm, edit: Edit) -> SSAValue:
        """``x`` in the order of axes before ``perm``."""
        turn = self.above(x)
        if turn is not None and tuple(turn.perm.data) == perm:
            return turn.x
        dims = spec(x).dims
        if not dims or all(d == ONE for d in dims):
            return x
        padded = (ONE,) * (len(perm) - len(dims)) + dims
        array = edit.array(x)
        if array is not None:
            shape = (1,) * (len(perm) - array.ndim) + array.shape
            return edit.derived(np.transpose(array.reshape(shape), inverse(perm)), x)
        whole = x if padded == dims else edit.add(ReshapeOp, x, shape=padded)
        return edit.add(TransposeOp, whole, perm=inverse(perm))


def _is_free(x: SSAValue, perm: Perm, edit: Edit) -> bool:
    """Whether turning ``x`` back costs nothing at run time."""
    if edit.array(x) is not None:
        return True
    dims = spec(x).dims
    padded = (ONE,) * (len(perm) - len(dims)) + dims
    wide = [p for p in inverse(perm) if padded[p] != ONE]
    return wide == sorted(wide)


class SinkExpand(_Sink[ExpandOp]):
    """``expand(transpose(x), s) = transpose(expand(x, s'))`` at the same rank."""

    root = ExpandOp

    def _rewrite(self, op: ExpandOp, edit: Edit) -> Replacement:
        turn = self.above(op.x)
        if turn is None or len(op.shape.data) != len(turn.perm.data):
            return None
        perm = tuple(turn.perm.data)
        shape = [op.shape.data[i] for i in inverse(perm)]
        return self.below(edit.add(ExpandOp, turn.x, shape=shape), perm, edit)


class SinkSplit(_Sink[ReshapeOp]):
    """``reshape(transpose(x)) = transpose(reshape(x))`` when the reshape splits axes of ``x``."""

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        turn = self.above(op.x)
        runs = None if turn is None else merged_runs(op.shape.data, spec(op.x).dims)
        if turn is None or runs is None:
            return None
        back = inverse(turn.perm.data)
        shape = [op.shape.data[axis] for i in back for axis in runs[i]]
        starts = np.cumsum([0, *(len(runs[i]) for i in back)])
        perm = [
            int(starts[p]) + offset
            for i, p in enumerate(turn.perm.data)
            for offset in range(len(runs[i]))
        ]
        return self.below(edit.add(ReshapeOp, turn.x, shape=shape), perm, edit)


class SinkMerge(_Sink[ReshapeOp]):
    """``reshape(transpose(x))`` that merges axes becomes ``transpose(reshape(transpose'(x)))``.

    What stays inside brings together the axes that merge, and is nothing when they are
    neighbours already; a shuffle of channels stays such, on the innermost axes.
    """

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        turn = self.above(op.x)
        runs = None if turn is None else merged_runs(spec(op.x).dims, op.shape.data)
        if turn is None or runs is None or all(len(run) < 2 for run in runs):
            return None
        groups = [[turn.perm.data[i] for i in run] for run in runs]
        places = _places(groups, spec(turn.x).dims)
        order = sorted(range(len(groups)), key=places.__getitem__)
        inner = [axis for g in order for axis in groups[g]]
        if order == list(range(len(order))):
            return None
        near = turn.x
        if inner != sorted(inner):
            near = edit.add(TransposeOp, near, perm=tuple(inner))
        made = edit.add(ReshapeOp, near, shape=[op.shape.data[g] for g in order])
        return self.below(made, inverse(order), edit)


def _places(groups: Sequence[Sequence[int]], dims: Sequence[Expr]) -> list[int]:
    """Where each merged group lies: at its first axis that is not 1, or behind the last group."""
    places: list[int] = []
    for group in groups:
        wide = [a for a in group if dims[a] != ONE] or group
        places.append(min(wide, default=places[-1] if places else 0))
    return places


class FlattenIntoMatmul(_Sink[MatmulOp]):
    """``flatten(transpose(x)) @ w = flatten(x) @ w'``: rows of a constant move instead."""

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        flat = made_by(op.a, ReshapeOp)
        turn = self.above(flat.x) if flat is not None else None
        weights = edit.array(op.b)
        if flat is None or turn is None or weights is None or spec(flat.y).rank != 2:
            return None
        dims = spec(flat.x).dims
        sizes = [d.constant for d in dims[1:]]
        known = [s for s in sizes if s is not None]
        if len(known) != len(sizes) or turn.perm.data[0] != 0 or spec(flat.y).dims[0] != dims[0]:
            return None
        if weights.ndim != 2:
            return None
        rows = weights.T if op.transpose_b.data else weights
        order = [i - 1 for i in inverse(turn.perm.data)[1:]]
        moved = _permuted(rows, known, order)
        near = edit.add(ReshapeOp, turn.x, shape=spec(flat.y).dims)
        return edit.add(MatmulOp, near, edit.derived(moved, op.b), to=op.attrs()["to"])


def _permuted(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.generic]], sizes: list[int], order: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Rows numbered over ``sizes``, renumbered over ``sizes`` in another order of axes."""
    if 0 in rows.strides and rows.strides[0] == 0:
        return rows
    apart = rows.reshape(*sizes, rows.shape[1])
    return np.transpose(apart, (*order, len(sizes))).reshape(rows.shape)


SINKS: tuple[type[_Sink[Any]], ...] = (
    *(SinkMerged, SinkPool, SinkUnary, SinkReduce, SinkMap, SinkExpand),
    *(SinkSplit, SinkMerge, FlattenIntoMatmul),
)

"""Pull one tile of any value of a kernel: what computing it needs is loaded where it lies.

Each ``nn`` operator that is pointwise or a view has a rule that turns "these lanes of my result"
into lanes of its operands. Views become index arithmetic, so a transpose, slice or reshape in a
kernel costs no memory traffic of its own. Lanes appear in the index expressions as ``_lane0`` and
``_lane1``; an operand that does not depend on a lane is pulled as a tile of size 1 along it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr
from tapeout.ir.ops import index as lookups
from tapeout.ir.ops import pointwise, source, views
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.deform_conv import DeformConvOp
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
from tapeout.ir.ops.reduce import ArgReduceOp
from tapeout.ir.ops.resample import GridSampleOp, ResizeOp, RoiAlignOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.types import spec
from tapeout.passes.tile.places import (
    Index,
    NotPullable,
    Pairs,
    lanes_within,
    number,
    shape_of,
)
from tapeout.passes.tile.rules import lookup, sampling, search, taps
from tapeout.passes.tile.rules.resize import resize

Maker = Callable[[Index, tuple[int, ...], Pairs], SSAValue]

__all__ = ["RULES", "Index", "Maker", "NotPullable", "Pairs", "Pull", "reshaped_index"]


@dataclass
class Pull:
    """Pulls tiles inside one program.

    ``buffers`` holds the values that lie in memory, ``made`` those that a strategy provides
    itself (a product's accumulator, a row's sum).
    """

    builder: TileBuilder
    buffers: Mapping[SSAValue, SSAValue]
    made: dict[SSAValue, Maker] = field(default_factory=dict)
    _seen: dict[tuple[object, ...], SSAValue] = field(default_factory=dict)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Tiles made inside (a loop body) are not reused outside, where they do not reach."""
        outer, made = dict(self._seen), dict(self.made)
        yield
        self._seen, self.made = outer, made

    def at(
        self, value: SSAValue, index: Sequence[Expr], shape: Sequence[int], bounds: Pairs = ()
    ) -> SSAValue:
        """The tile of ``value`` at ``index`` over lanes of ``shape``, 0 outside ``bounds``.

        Lanes outside the bounds hold anything once computed with; stores mask them again.
        """
        index = tuple(index)
        needed = shape_of(index, tuple(shape))
        key = (value, index, needed, bounds)
        if key not in self._seen:
            self._make(value, index, needed, bounds)
        return self._seen[key]

    def within(
        self,
        value: SSAValue,
        index: Sequence[Expr],
        shape: Sequence[int],
        bounds: Pairs,
        inside: Pairs,
        fill: float = 0.0,
    ) -> SSAValue:
        """As :meth:`at`, but ``fill`` where one of ``inside`` does not hold: a window's rim."""
        if value in self.buffers and value not in self.made:
            needed = shape_of([*index, *(e for pair in inside for e in pair)], tuple(shape))
            kept = tuple(pair for pair in (*bounds, *inside) if lanes_within(pair, needed))
            return self.builder.load(self.buffers[value], index, needed, kept, fill)
        tile, b = self.at(value, index, shape, (*bounds, *inside)), self.builder
        for e, n in inside:
            here = number(b, e, tuple(shape))
            holds = b.map("and", b.map("ge", here, number(b, 0)), b.map("lt", here, number(b, n)))
            tile = b.map("where", holds, tile, b.full(fill, (1, 1), spec(value).dtype))
        return tile

    def _make(self, value: SSAValue, index: Index, shape: tuple[int, ...], bounds: Pairs) -> None:
        found: Sequence[SSAValue]
        values: Sequence[SSAValue] = [value]
        if value in self.made:
            found = [self.made[value](index, shape, bounds)]
        elif value in self.buffers:
            kept = tuple(pair for pair in bounds if lanes_within(pair, shape))
            found = [self.builder.load(self.buffers[value], index, shape, kept)]
        else:
            op = value.owner
            rule = RULES.get(type(op))  # type: ignore[arg-type]
            if rule is None:
                raise NotPullable(getattr(op, "name", "block argument"))
            made = rule(self, op, index, shape, bounds)
            found = made if isinstance(made, tuple) else [made]
            values = op.results  # type: ignore[union-attr]
        for each, tile in zip(values, found, strict=True):
            self._seen[each, index, shape, bounds] = tile


def _broadcast_index(value: SSAValue, index: Index) -> Index:
    """An index of the broadcast result as an index of one operand."""
    dims = spec(value).dims
    tail = index[len(index) - len(dims) :]
    return tuple(ZERO if d == 1 else i for d, i in zip(dims, tail, strict=True))


def _map(pull: Pull, op: pointwise.MapOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    tiles = [pull.at(x, _broadcast_index(x, index), shape, bounds) for x in op.xs]
    return pull.builder.map(op.fn.data, *tiles)


def _convert(
    pull: Pull, op: pointwise.ConvertOp, index: Index, shape: tuple[int, ...], bounds: Pairs
):
    x = pull.at(op.x, index, shape, bounds)
    return pull.builder.convert(x, op.to.data, op.saturate.data)


def _constant(
    pull: Pull, op: source.ConstantOp, index: Index, shape: tuple[int, ...], bounds: Pairs
):
    array = op.value.data.array
    if array.size != 1:
        raise NotPullable("a literal of several elements is an argument")
    return pull.builder.full(_number(array.reshape(-1)[0]), shape, spec(op.y).dtype)


def _number(value: Any) -> float:
    number = float(value)
    return int(value) if math.isfinite(number) and number == int(number) else number


def _iota(pull: Pull, op: source.IotaOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    return pull.builder.convert(pull.builder.index(index[op.axis.data], shape), op.dtype.data)


def _dim_values(
    pull: Pull, op: source.DimValuesOp, index: Index, shape: tuple[int, ...], bounds: Pairs
):
    values = op.values.data
    total = pull.builder.index(values[-1], shape)
    for i, value in reversed(list(enumerate(values[:-1]))):
        here = pull.builder.map(
            "eq", pull.builder.index(index[0], shape), pull.builder.index(as_expr(i), shape)
        )
        total = pull.builder.map("where", here, pull.builder.index(value, shape), total)
    return total


def _transpose(
    pull: Pull, op: views.TransposeOp, index: Index, shape: tuple[int, ...], bounds: Pairs
):
    places = {p: i for i, p in enumerate(op.perm.data)}
    return pull.at(op.x, [index[places[a]] for a in range(len(index))], shape, bounds)


def _concat(pull: Pull, op: views.ConcatOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    """The operand in which the index falls; the others are read nowhere."""
    b, axis = pull.builder, op.axis.data % spec(op.y).rank
    total, offset = None, ZERO
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


def _expand(pull: Pull, op: views.ExpandOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    return pull.at(op.x, _broadcast_index(op.x, index), shape, bounds)


def _slice(pull: Pull, op: views.SliceOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    moved = [s + i * d for s, i, d in zip(op.starts.data, index, op.steps.data, strict=True)]
    return pull.at(op.x, moved, shape, bounds)


def _reshape(pull: Pull, op: views.ReshapeOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    return pull.at(op.x, reshaped_index(op, index), shape, bounds)


def reshaped_index(op: views.ReshapeOp, index: Index) -> Index:
    """The operand's index of one element of a reshape.

    Axes are matched from the back in runs of equal element count, so that an axis that stays
    keeps its plain index and only those that split or merge get arithmetic.
    """
    have, want = list(spec(op.x).dims), list(spec(op.y).dims)
    result: list[Expr] = []
    at = list(index)
    while have:
        source_run, target_run = [have.pop()], []
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


def _pad(pull: Pull, op: views.PadOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    if op.mode.data != "constant":
        return lookup.folded(pull, op, index, shape, bounds)
    dims = spec(op.x).dims
    moved = [i - low for i, low in zip(index, op.low.data, strict=True)]
    padded = [
        (m, d)
        for m, d, low, high in zip(moved, dims, op.low.data, op.high.data, strict=True)
        if low != 0 or high != 0
    ]
    inner = pull.at(op.x, moved, shape, (*bounds, *padded))
    direct = op.x in pull.buffers
    if direct and op.value is None:
        return inner
    b = pull.builder
    inside: SSAValue | None = None
    for m, d in padded:
        at = b.index(m, shape)
        low = b.map("ge", at, b.index(ZERO, shape))
        both = b.map("and", low, b.map("lt", at, b.index(d, shape)))
        inside = both if inside is None else b.map("and", inside, both)
    if inside is None:
        return inner
    dtype = spec(op.x).dtype
    other = (
        b.full(0, (1,) * len(shape), dtype) if op.value is None else pull.at(op.value, (), shape)
    )
    return b.map("where", inside, inner, other)


RULES: Mapping[type, Callable[..., SSAValue | tuple[SSAValue, ...]]] = {
    pointwise.MapOp: _map,
    pointwise.ConvertOp: _convert,
    source.ConstantOp: _constant,
    source.IotaOp: _iota,
    source.DimValuesOp: _dim_values,
    views.TransposeOp: _transpose,
    views.ExpandOp: _expand,
    views.SliceOp: _slice,
    views.ReshapeOp: _reshape,
    views.PadOp: _pad,
    views.ConcatOp: _concat,
    lookups.GatherOp: lookup.gather,
    lookups.GatherElementsOp: lookup.gather_elements,
    lookups.GatherNdOp: lookup.gather_nd,
    ArgReduceOp: search.arg_reduce,
    ConvOp: taps.conv,
    ConvTransposeOp: taps.conv_transpose,
    PoolOp: taps.pool,
    MaxPoolIndicesOp: taps.max_pool_indices,
    MatmulOp: taps.matmul,
    ResizeOp: resize,
    GridSampleOp: sampling.grid_sample,
    DeformConvOp: sampling.deform_conv,
    RoiAlignOp: sampling.roi_align,
}

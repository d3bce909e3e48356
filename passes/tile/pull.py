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
from tapeout.ir.dtypes import i64
from tapeout.ir.ops import pointwise, source, views
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import index_operand, lane_axis
from tapeout.ir.types import spec

Index = tuple[Expr, ...]
Pairs = tuple[tuple[Expr, Expr], ...]
Maker = Callable[[Index, tuple[int, ...], Pairs], SSAValue]


class NotPullable(Exception):
    """The value cannot be computed at arbitrary indices; it has to be a kernel's own root."""


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
        used = {a for e in index for s in e.symbols() if (a := lane_axis(s)) is not None}
        needed = tuple(n if a in used else 1 for a, n in enumerate(shape))
        key = (value, index, needed, bounds)
        if key not in self._seen:
            self._seen[key] = self._make(value, index, needed, bounds)
        return self._seen[key]

    def _make(
        self, value: SSAValue, index: Index, shape: tuple[int, ...], bounds: Pairs
    ) -> SSAValue:
        if value in self.made:
            return self.made[value](index, shape, bounds)
        if value in self.buffers:
            kept = tuple(pair for pair in bounds if _lanes_within(pair, shape))
            return self.builder.load(self.buffers[value], index, shape, kept)
        op = value.owner
        rule = RULES.get(type(op))  # type: ignore[arg-type]
        if rule is None:
            raise NotPullable(getattr(op, "name", "block argument"))
        return rule(self, op, index, shape, bounds)


def _lanes_within(pair: tuple[Expr, Expr], shape: Sequence[int]) -> bool:
    """Whether a bound speaks only of lanes that the tile has; others cannot mask it."""
    axes = {a for e in pair for s in e.symbols() if (a := lane_axis(s)) is not None}
    return all(shape[a] > 1 for a in axes)


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
        raise NotPullable("pad modes other than constant")
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


def _gather(pull: Pull, op: GatherOp, index: Index, shape: tuple[int, ...], bounds: Pairs):
    """Look a row up: an index tile, wrapped when negative and clamped, then a load through it."""
    if op.x not in pull.buffers:
        raise NotPullable("gather reads a table in memory")
    axis = op.axis.data % spec(op.x).rank
    places = spec(op.indices).rank
    where = pull.at(op.indices, index[axis : axis + places], shape, bounds)
    b, size = pull.builder, spec(op.x).dims[axis]
    where = b.convert(where, i64)
    zero, top = b.index(ZERO, (1,) * len(shape)), b.index(size - 1, (1,) * len(shape))
    wrapped = b.map("add", where, b.index(size, (1,) * len(shape)))
    where = b.map("where", b.map("lt", where, zero), wrapped, where)
    where = b.map("max", b.map("min", where, top), zero)
    moved = [*index[:axis], index_operand(0), *index[axis + places :]]
    kept = tuple(pair for pair in bounds if _lanes_within(pair, shape))
    return b.load(pull.buffers[op.x], moved, shape, kept, indices=[where])


RULES: Mapping[type, Callable[..., SSAValue]] = {
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
    GatherOp: _gather,
}

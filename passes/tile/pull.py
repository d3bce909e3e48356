"""Pull one tile of any value of a kernel: what computing it needs is loaded where it lies.

Each ``nn`` operator that is pointwise or a view has a rule that turns "these lanes of my result"
into lanes of its operands. Views become index arithmetic, so a transpose, slice or reshape in a
kernel costs no memory traffic of its own. Lanes appear in the index expressions as ``_lane0`` and
``_lane1``; an operand that does not depend on a lane is pulled as a tile of size 1 along it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from xdsl.ir import Operation, SSAValue

from tapeout.ir.expr import Expr
from tapeout.ir.op import NNOp
from tapeout.ir.ops import index as lookups
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.deform_conv import DeformConvOp
from tapeout.ir.ops.pointwise import BitcastOp, ConvertOp, MapOp
from tapeout.ir.ops.pool import MaxPoolIndicesOp, PoolOp
from tapeout.ir.ops.reduce import ArgReduceOp
from tapeout.ir.ops.resample import GridSampleOp, ResizeOp, RoiAlignOp
from tapeout.ir.ops.source import ConstantOp, DimValuesOp, IotaOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.types import spec
from tapeout.passes.tile.places import (
    Index,
    NotPullable,
    Pairs,
    Shape,
    broadcast_index,
    lanes_within,
    number,
    shape_of,
)
from tapeout.passes.tile.rules import layouts, lookup, sampling, search, taps
from tapeout.passes.tile.rules.resize import resize

Maker = Callable[[Index, Shape, Pairs], SSAValue]
"""A tile of a value at an index, over lanes of a shape, 0 outside of bounds."""

Key = tuple[SSAValue, Index, Shape, Pairs]
"""What makes a pulled tile the same as one before: value, index, lanes and bounds."""

__all__ = ["RULES", "Index", "Maker", "NotPullable", "Pairs", "Pull"]


@dataclass
class Pull:
    """Pulls tiles inside one program.

    ``buffers`` holds the values that lie in memory, ``made`` those that a strategy provides
    itself (a product's accumulator, a row's sum).
    """

    builder: TileBuilder
    buffers: Mapping[SSAValue, SSAValue]
    made: dict[SSAValue, Maker] = field(default_factory=dict[SSAValue, Maker])
    _seen: dict[Key, SSAValue] = field(default_factory=dict["Key", SSAValue])

    @contextmanager
    def scope(self) -> Generator[None]:
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

    def _make(self, value: SSAValue, index: Index, shape: Shape, bounds: Pairs) -> None:
        found: Sequence[SSAValue]
        values: Sequence[SSAValue] = [value]
        if value in self.made:
            found = [self.made[value](index, shape, bounds)]
        elif value in self.buffers:
            kept = tuple(pair for pair in bounds if lanes_within(pair, shape))
            found = [self.builder.load(self.buffers[value], index, shape, kept)]
        else:
            op = value.owner
            rule = RULES.get(type(op)) if isinstance(op, NNOp) else None
            if rule is None or not isinstance(op, NNOp):
                raise NotPullable(op.name if isinstance(op, Operation) else "block argument")
            made = rule(self, op, index, shape, bounds)
            found = made if isinstance(made, tuple) else [made]
            values = op.results
        for each, tile in zip(values, found, strict=True):
            self._seen[each, index, shape, bounds] = tile


def _map(pull: Pull, op: MapOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    tiles = [pull.at(x, broadcast_index(x, index), shape, bounds) for x in op.xs]
    return pull.builder.map(op.fn.data, *tiles)


def _convert(pull: Pull, op: ConvertOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    x = pull.at(op.x, index, shape, bounds)
    return pull.builder.convert(x, op.to.data, op.saturate.data)


def _bitcast(pull: Pull, op: BitcastOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    return pull.builder.bitcast(pull.at(op.x, index, shape, bounds), op.to.data)


def _constant(pull: Pull, op: ConstantOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    array = op.value.data.array
    if array.size != 1:
        raise NotPullable("a literal of several elements is an argument")
    return pull.builder.full(_number(array.reshape(-1)[0]), shape, spec(op.y).dtype)


def _number(value: Any) -> float:
    number = float(value)
    return int(value) if math.isfinite(number) and number == int(number) else number


def _iota(pull: Pull, op: IotaOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    axis: int = op.axis.data
    return pull.builder.convert(pull.builder.index(index[axis], shape), op.dtype.data)


def _dim_values(pull: Pull, op: DimValuesOp, index: Index, shape: Shape, bounds: Pairs) -> SSAValue:
    values: Sequence[Expr] = op.values.data
    b = pull.builder
    total = b.index(values[-1], shape)
    for i, value in reversed(list(enumerate(values[:-1]))):
        here = b.map("eq", b.index(index[0], shape), b.index(i, shape))
        total = b.map("where", here, b.index(value, shape), total)
    return total


RULES: Mapping[type, Callable[..., SSAValue | tuple[SSAValue, ...]]] = {
    MapOp: _map,
    ConvertOp: _convert,
    BitcastOp: _bitcast,
    ConstantOp: _constant,
    IotaOp: _iota,
    DimValuesOp: _dim_values,
    TransposeOp: layouts.transpose,
    ExpandOp: layouts.expand,
    SliceOp: layouts.slice_,
    ReshapeOp: layouts.reshape,
    PadOp: layouts.pad,
    ConcatOp: layouts.concat,
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

"""Operators of the tile level.

Index arithmetic is not SSA: it is expressions in attributes, over the symbols of dimensions,
of loop variables (``tile.for``), of lanes (``_lane0``, ``_lane1``: the position along each axis of
the tile that an operator makes) and of index tiles (``_at0``: the element of the first index
operand at the same lanes). So one expression says how a whole tile is addressed, and any target can
read strides, contiguity and bounds off it.

*Bounds* are pairs ``(e, n)``: a lane takes part only where ``0 <= e < n`` holds for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, SymbolOpInterface

from tapeout.ir.dtypes import DType, i64
from tapeout.ir.expr import Expr, Symbol, as_expr, as_symbol, symbol
from tapeout.ir.tile.types import BufferSpec, BufferType, NumberAttr, TileSpec, TileType, number
from tapeout.ir.types import ExprsAttr, IntAttr, IntsAttr, StrAttr, StrsAttr

Bounds = Sequence[tuple[Expr, Expr]]

MOST_LOOKED_UP = 64
"""Entries of 10 bits, each times its bit, that 16 bits can sum."""


def lane(axis: int, size: int) -> Expr:
    """The position along one axis of a tile, in ``[0, size)``; 0 for a size of 1."""
    return symbol(f"_lane{axis}", 0, size - 1) if size > 1 else Expr({})


def lane_axis(s: Symbol) -> int | None:
    """The axis of a lane symbol, None for other symbols."""
    return int(s.name[5:]) if s.name.startswith("_lane") else None


def index_operand(position: int) -> Expr:
    """The value of the index operand at this position."""
    return symbol(f"_at{position}", -(2**62))


def index_position(s: Symbol) -> int | None:
    """The position of the index operand that a symbol stands for, None for other symbols."""
    return int(s.name[3:]) if s.name.startswith("_at") else None


def buffer_of(value: SSAValue) -> BufferSpec:
    """The spec of a buffer value."""
    assert isinstance(value.type, BufferType), f"{value.type} is not a buffer"
    return value.type.data


def tile_of(value: SSAValue) -> TileSpec:
    """The spec of a tile value."""
    assert isinstance(value.type, TileType), f"{value.type} is not a tile"
    return value.type.data


@irdl_op_definition
class ProgramOp(IRDLOperation):
    """One kernel. Block arguments are its buffers: inputs, then ``outputs`` outputs.

    ``title`` says what it computes, in a few words, for people who read the emitted code.
    ``work`` estimates operations, arithmetic and elements stored, so that a target can tell
    when spreading the program over cores costs more than it saves.
    ``begins``: for each output the number of the input that its buffer holds when the program
    begins, or -1; empty for -1 everywhere. The two may be one buffer.
    """

    name = "tile.program"
    sym_name = prop_def(StringAttr)
    title = prop_def(StrAttr)
    names = prop_def(StrsAttr)
    outputs = prop_def(IntAttr)
    work = prop_def(ExprsAttr)
    begins = opt_prop_def(IntsAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove(), NoTerminator())

    def __init__(
        self, name: str, title: str, buffers: Sequence[tuple[str, BufferSpec]], outputs: int
    ):
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "title": StrAttr(title),
                "names": StrsAttr(tuple(n for n, _ in buffers)),
                "outputs": IntAttr(outputs),
                "work": ExprsAttr((as_expr(2**62),)),
            },
            regions=[Region(Block(arg_types=[BufferType(b) for _, b in buffers]))],
        )

    @property
    def begun(self) -> tuple[int, ...]:
        """``begins`` of every output."""
        return (-1,) * self.outputs.data if self.begins is None else self.begins.data


@irdl_op_definition
class ForOp(IRDLOperation):
    """``for iv in range(lo, hi, step)``; carried tiles go around, results are their last values.

    A bound that data decides is an index operand of shape ``[1, 1]``, as in loads.
    ``kind``: ``parallel`` (iterations independent, spread over cores; outermost only, carries
    nothing), ``serial``, or ``unroll`` (serial; a target should unroll it).
    """

    name = "tile.for"
    iv = prop_def(ExprsAttr)
    range = prop_def(ExprsAttr)
    kind = prop_def(StrAttr)
    carried = var_operand_def(TileType)
    indices = var_operand_def(TileType)
    ys = var_result_def(TileType)
    body = region_def("single_block")
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        iv: Expr,
        lo: Expr,
        hi: Expr,
        step: Expr,
        kind: str,
        carried: Sequence[SSAValue],
        indices: Sequence[SSAValue] = (),
    ) -> None:
        types = [v.type for v in carried]
        super().__init__(
            operands=[list(carried), list(indices)],
            properties={
                "iv": ExprsAttr((iv,)),
                "range": ExprsAttr((lo, hi, step)),
                "kind": StrAttr(kind),
            },
            result_types=[types],
            regions=[Region(Block(arg_types=types))],
        )

    @property
    def symbol(self) -> Symbol:
        """The loop variable."""
        found = as_symbol(self.iv.data[0])
        assert found is not None, "a loop variable is one symbol"
        return found


@irdl_op_definition
class YieldOp(IRDLOperation):
    """End a loop body with the next carried tiles."""

    name = "tile.yield"
    values = var_operand_def(TileType)
    traits = traits_def(IsTerminator())

    def __init__(self, values: Sequence[SSAValue]) -> None:
        super().__init__(operands=[list(values)])


@irdl_op_definition
class AllocOp(IRDLOperation):
    """Scratch in a memory level; contents are undefined at first."""

    name = "tile.alloc"
    buffer = result_def(BufferType)

    def __init__(self, spec: BufferSpec) -> None:
        super().__init__(result_types=[BufferType(spec)])


def _bounds_attr(bounds: Bounds) -> ExprsAttr:
    return ExprsAttr(tuple(e for pair in bounds for e in pair))


def bounds_of(op: LoadOp | StoreOp) -> list[tuple[Expr, Expr]]:
    """The bounds of a load or store as pairs."""
    flat = op.bounds.data
    return list(zip(flat[::2], flat[1::2], strict=True))


@irdl_op_definition
class LoadOp(IRDLOperation):
    """``y[lanes] = buffer[index(lanes)]``, or ``fill`` where the bounds do not hold."""

    name = "tile.load"
    buffer = operand_def(BufferType)
    indices = var_operand_def(TileType)
    index = prop_def(ExprsAttr)
    bounds = prop_def(ExprsAttr)
    fill = prop_def(NumberAttr)
    y = result_def(TileType)

    def __init__(
        self,
        buffer: SSAValue,
        index: Sequence[Expr],
        shape: Sequence[int],
        bounds: Bounds = (),
        fill: float = 0.0,
        indices: Sequence[SSAValue] = (),
    ) -> None:
        super().__init__(
            operands=[buffer, list(indices)],
            properties={
                "index": ExprsAttr(tuple(index)),
                "bounds": _bounds_attr(bounds),
                "fill": number(fill),
            },
            result_types=[TileType(TileSpec(tuple(shape), buffer_of(buffer).dtype))],
        )


@irdl_op_definition
class StoreOp(IRDLOperation):
    """``buffer[index(lanes)] = value[lanes]`` where the bounds hold."""

    name = "tile.store"
    value = operand_def(TileType)
    buffer = operand_def(BufferType)
    indices = var_operand_def(TileType)
    index = prop_def(ExprsAttr)
    bounds = prop_def(ExprsAttr)

    def __init__(
        self,
        value: SSAValue,
        buffer: SSAValue,
        index: Sequence[Expr],
        bounds: Bounds = (),
        indices: Sequence[SSAValue] = (),
    ) -> None:
        super().__init__(
            operands=[value, buffer, list(indices)],
            properties={"index": ExprsAttr(tuple(index)), "bounds": _bounds_attr(bounds)},
        )


@irdl_op_definition
class PrefetchOp(IRDLOperation):
    """A hint: what lies ``ahead`` bytes behind ``buffer[index]`` is read soon, if it is there."""

    name = "tile.prefetch"
    buffer = operand_def(BufferType)
    index = prop_def(ExprsAttr)
    ahead = prop_def(IntAttr)

    def __init__(self, buffer: SSAValue, index: Sequence[Expr], ahead: int) -> None:
        super().__init__(
            operands=[buffer],
            properties={"index": ExprsAttr(tuple(index)), "ahead": IntAttr(ahead)},
        )


@irdl_op_definition
class FullOp(IRDLOperation):
    """A tile of one value."""

    name = "tile.full"
    value = prop_def(NumberAttr)
    y = result_def(TileType)

    def __init__(self, value: float, shape: Sequence[int], dtype: DType) -> None:
        super().__init__(
            properties={"value": number(value)},
            result_types=[TileType(TileSpec(tuple(shape), dtype))],
        )


@irdl_op_definition
class IndexOp(IRDLOperation):
    """The value of an expression at each lane, as i64."""

    name = "tile.index"
    indices = var_operand_def(TileType)
    expr = prop_def(ExprsAttr)
    y = result_def(TileType)

    def __init__(self, expr: Expr, shape: Sequence[int], indices: Sequence[SSAValue] = ()) -> None:
        super().__init__(
            operands=[list(indices)],
            properties={"expr": ExprsAttr((expr,))},
            result_types=[TileType(TileSpec(tuple(shape), i64))],
        )


@irdl_op_definition
class MapOp(IRDLOperation):
    """A scalar function elementwise; tiles broadcast where a size is 1."""

    name = "tile.map"
    fn = prop_def(StrAttr)
    xs = var_operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, fn: str, xs: Sequence[SSAValue], dtype: DType) -> None:
        shapes = [tile_of(x).shape for x in xs]
        shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        super().__init__(
            operands=[list(xs)],
            properties={"fn": StrAttr(fn)},
            result_types=[TileType(TileSpec(shape, dtype))],
        )


@irdl_op_definition
class BroadcastOp(IRDLOperation):
    """The same values in a larger shape: sizes of 1 are repeated."""

    name = "tile.broadcast"
    x = operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, x: SSAValue, shape: Sequence[int]) -> None:
        super().__init__(
            operands=[x], result_types=[TileType(TileSpec(tuple(shape), tile_of(x).dtype))]
        )


@irdl_op_definition
class ConvertOp(IRDLOperation):
    """The same values in another element type, as ``nn.convert``."""

    name = "tile.convert"
    x = operand_def(TileType)
    saturate = prop_def(IntAttr)
    y = result_def(TileType)

    def __init__(self, x: SSAValue, dtype: DType, saturate: bool = False) -> None:
        super().__init__(
            operands=[x],
            properties={"saturate": IntAttr(int(saturate))},
            result_types=[TileType(TileSpec(tile_of(x).shape, dtype))],
        )


@irdl_op_definition
class BitcastOp(IRDLOperation):
    """The same bits in another element type of the same width, as ``nn.bitcast``."""

    name = "tile.bitcast"
    x = operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, x: SSAValue, dtype: DType) -> None:
        super().__init__(operands=[x], result_types=[TileType(TileSpec(tile_of(x).shape, dtype))])


@irdl_op_definition
class FieldOp(IRDLOperation):
    """``((x >> low) & (2**bits - 1)) << to`` in unsigned integers: a field of packed codes."""

    name = "tile.field"
    x = operand_def(TileType)
    low = prop_def(IntAttr)
    bits = prop_def(IntAttr)
    to = prop_def(IntAttr)
    y = result_def(TileType)

    def __init__(self, x: SSAValue, low: int, bits: int, to: int = 0) -> None:
        super().__init__(
            operands=[x],
            properties={"low": IntAttr(low), "bits": IntAttr(bits), "to": IntAttr(to)},
            result_types=[x.type],
        )


@irdl_op_definition
class ReduceOp(IRDLOperation):
    """Combine along one axis of a tile, which becomes 1, in a fixed order."""

    name = "tile.reduce"
    fn = prop_def(StrAttr)
    axis = prop_def(IntAttr)
    x = operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, fn: str, x: SSAValue, axis: int) -> None:
        shape = tuple(1 if i == axis else n for i, n in enumerate(tile_of(x).shape))
        super().__init__(
            operands=[x],
            properties={"fn": StrAttr(fn), "axis": IntAttr(axis)},
            result_types=[TileType(TileSpec(shape, tile_of(x).dtype))],
        )


@irdl_op_definition
class TransposeOp(IRDLOperation):
    """``y[c, r] = x[r, c]``."""

    name = "tile.transpose"
    x = operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, x: SSAValue) -> None:
        rows, columns = tile_of(x).shape
        super().__init__(
            operands=[x], result_types=[TileType(TileSpec((columns, rows), tile_of(x).dtype))]
        )


@irdl_op_definition
class InterleaveOp(IRDLOperation):
    """Four rows of bytes as the right side of a dot, their columns dealt out in fours.

    ``y[r, n/4 * j + 4 * b + i] = rows[r][0, 16 * b + 4 * j + i]`` for ``j`` and ``i`` below 4 and
    ``n`` columns, a multiple of 16. So unpack instructions leave them, which work on 16 bytes at a
    time; who lays the rows out in that order gets ``y`` in the order of columns, for nothing.
    """

    name = "tile.interleave"
    rows = var_operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, rows: Sequence[SSAValue]) -> None:
        first = tile_of(rows[0])
        assert len(rows) == 4, f"four steps make a dot of bytes, not {len(rows)}"
        shape = (4, first.shape[1])
        assert first.shape == (1, shape[1] // 16 * 16), f"no row of fours: {first.shape}"
        super().__init__(
            operands=[list(rows)], result_types=[TileType(TileSpec(shape, first.dtype))]
        )

    def order(self) -> Sequence[int]:
        """For each column of the result, the column of the rows that it comes from."""
        n = tile_of(self.y).shape[1]
        return [16 * (c % (n // 4) // 4) + 4 * (c // (n // 4)) + c % 4 for c in range(n)]


@irdl_op_definition
class DotOp(IRDLOperation):
    """``acc + a @ b`` for ``a [m, k]``, ``b [k, n]``, ``acc [m, n]``, summed over k in order."""

    name = "tile.dot"
    a = operand_def(TileType)
    b = operand_def(TileType)
    acc = operand_def(TileType)
    y = result_def(TileType)

    def __init__(self, a: SSAValue, b: SSAValue, acc: SSAValue) -> None:
        super().__init__(operands=[a, b, acc], result_types=[acc.type])


@irdl_op_definition
class LookUpOp(IRDLOperation):
    """``acc + (a @ codes << up)`` for codes of few bits: what ``a`` adds up to is looked up.

    A *step* is four neighbours along the summed axis. Bit ``b`` of their four codes is a number
    below 16, whose entry in the table of the step is the sum of those ``a`` whose bit is set::

        y[r, c] = acc[r, c] + sum over steps s and bits b of entry(r, s, number(s, b, c)) << b + up
        number(s, b, c) = codes[.., b, s // 2, c] >> 4 * (s % 2) & 15
        entry(r, s, e) = tables[.., s, 0, e] + 32 * tables[.., s, 1, e]

    ``tables`` u8 ``[.., steps, 2, 16]`` holds entries of 10 bits as halves of 5, ``codes`` u8
    ``[.., bits, steps / 2, columns]``; ``tables_at``, which may depend on the row, and ``codes_at``
    are places along their leading axes. ``acc`` is i32 ``[rows, columns]``. Three bits at most are
    summed in 16 bits, unsigned: ``(2**min(bits, 3) - 1) * steps`` is at most 64. ``ahead``: how
    many bytes before their use codes are asked for, as by ``tile.prefetch``.
    Source: T-MAC, arXiv:2407.00088.
    """

    name = "tile.look_up"
    tables = operand_def(BufferType)
    codes = operand_def(BufferType)
    acc = operand_def(TileType)
    tables_at = prop_def(ExprsAttr)
    codes_at = prop_def(ExprsAttr)
    up = prop_def(IntAttr)
    ahead = prop_def(IntAttr)
    y = result_def(TileType)

    def __init__(
        self,
        tables: SSAValue,
        tables_at: Sequence[Expr],
        codes: SSAValue,
        codes_at: Sequence[Expr],
        acc: SSAValue,
        up: int,
        ahead: int,
    ) -> None:
        super().__init__(
            operands=[tables, codes, acc],
            properties={
                "tables_at": ExprsAttr(tuple(tables_at)),
                "codes_at": ExprsAttr(tuple(codes_at)),
                "up": IntAttr(up),
                "ahead": IntAttr(ahead),
            },
            result_types=[acc.type],
        )
        assert self.steps % 2 == 0, "two steps share a byte"
        most = MOST_LOOKED_UP // ((1 << min(self.bits, 3)) - 1)
        assert self.steps <= most, f"{self.steps} steps of {self.bits} bits overflow 16 bits"

    @property
    def bits(self) -> int:
        """The bits of a code."""
        return int(buffer_of(self.codes).dims[-3])

    @property
    def steps(self) -> int:
        """The steps that are summed."""
        return int(buffer_of(self.tables).dims[-3])

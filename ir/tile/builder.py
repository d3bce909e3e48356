"""Write a tile program as straight Python: ``with b.loop(...)`` for loops, calls for operators."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.dtypes import DType, boolean
from tapeout.ir.expr import Expr, ExprLike, as_expr, symbol
from tapeout.ir.scalars import SCALARS
from tapeout.ir.tile import ops
from tapeout.ir.tile.types import BufferSpec


@dataclass
class Loop:
    """An open loop: its variable, its carried tiles, and where the next ones are put."""

    iv: Expr
    carried: list[SSAValue]
    op: ops.ForOp
    next: list[SSAValue] = field(default_factory=list[SSAValue])

    @property
    def results(self) -> list[SSAValue]:
        """The carried tiles after the loop."""
        return list(self.op.ys)


class TileBuilder:
    """Builds one :class:`ops.ProgramOp`; ``inputs`` and ``outputs`` are its buffers."""

    def __init__(
        self,
        name: str,
        title: str,
        inputs: Sequence[tuple[str, BufferSpec]],
        outputs: Sequence[tuple[str, BufferSpec]],
    ) -> None:
        """Start an empty program with named buffers."""
        self.program = ops.ProgramOp(name, title, [*inputs, *outputs], len(outputs))
        arguments = list(self.program.body.block.args)
        self.inputs = arguments[: len(inputs)]
        self.outputs = arguments[len(inputs) :]
        self._block: Block = self.program.body.block
        self._names: dict[str, int] = {}

    def insert(self, op: Operation) -> SSAValue:
        """Append an operator; returns its first result."""
        self._block.add_op(op)
        return op.results[0]

    def fresh(self, name: str) -> str:
        """A loop variable name not used before in this program."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}{count}" if count else name

    @contextmanager
    def loop(
        self,
        name: str,
        lo: ExprLike,
        hi: ExprLike,
        step: ExprLike = 1,
        carried: Sequence[SSAValue] = (),
        kind: str = "serial",
        indices: Sequence[SSAValue] = (),
    ) -> Generator[Loop]:
        """Open ``for name in range(lo, hi, step)``; set ``loop.next`` to the carried tiles.

        The bounds may read the ``[1, 1]`` tiles of ``indices``.
        """
        lo, hi, step = as_expr(lo), as_expr(hi), as_expr(step)
        first = lo.constant if lo.constant is not None else 0
        last = hi - 1
        top = last.constant if last.constant is not None else last
        iv = symbol(self.fresh(name), first, None if indices else top)
        op = ops.ForOp(iv, lo, hi, step, kind, carried, indices)
        self._block.add_op(op)
        outer, self._block = self._block, op.body.block
        loop = Loop(iv, list(op.body.block.args), op)
        yield loop
        self._block.add_op(ops.YieldOp(loop.next))
        self._block = outer

    def parallel(self, name: str, hi: ExprLike, step: ExprLike = 1) -> AbstractContextManager[Loop]:
        """Open a loop whose iterations are independent."""
        return self.loop(name, 0, hi, step, kind="parallel")

    def alloc(self, dims: Sequence[ExprLike], dtype: DType, space: str = "local") -> SSAValue:
        """Scratch in a memory level."""
        return self.insert(ops.AllocOp(BufferSpec(tuple(map(as_expr, dims)), dtype, space)))

    def load(
        self,
        buffer: SSAValue,
        index: Sequence[ExprLike],
        shape: Sequence[int],
        bounds: ops.Bounds = (),
        fill: float = 0.0,
        indices: Sequence[SSAValue] = (),
    ) -> SSAValue:
        """Load a tile."""
        index = [as_expr(i) for i in index]
        return self.insert(ops.LoadOp(buffer, index, shape, bounds, fill, indices))

    def store(
        self,
        value: SSAValue,
        buffer: SSAValue,
        index: Sequence[ExprLike],
        bounds: ops.Bounds = (),
        indices: Sequence[SSAValue] = (),
    ) -> None:
        """Store a tile."""
        self._block.add_op(ops.StoreOp(value, buffer, [as_expr(i) for i in index], bounds, indices))

    def prefetch(self, buffer: SSAValue, index: Sequence[ExprLike], ahead: int) -> None:
        """Hint at bytes that are read soon."""
        self._block.add_op(ops.PrefetchOp(buffer, [as_expr(i) for i in index], ahead))

    def multiply_add(self, x: SSAValue, y: SSAValue, total: SSAValue) -> SSAValue:
        """``x * y + total``: rounded once for floats, where the target can."""
        if ops.tile_of(total).dtype.is_float:
            return self.map("fma", x, y, total)
        return self.map("add", total, self.map("mul", x, y))

    def full(self, value: float, shape: Sequence[int], dtype: DType) -> SSAValue:
        """A constant tile."""
        return self.insert(ops.FullOp(value, shape, dtype))

    def index(
        self, expr: ExprLike, shape: Sequence[int], indices: Sequence[SSAValue] = ()
    ) -> SSAValue:
        """An expression as an i64 tile."""
        return self.insert(ops.IndexOp(as_expr(expr), shape, indices))

    def map(self, fn: str, *xs: SSAValue) -> SSAValue:
        """A scalar function of tiles."""
        dtype = boolean if SCALARS[fn].returns_bool else ops.tile_of(xs[-1]).dtype
        return self.insert(ops.MapOp(fn, xs, dtype))

    def broadcast(self, x: SSAValue, shape: Sequence[int]) -> SSAValue:
        """The tile in a larger shape; the tile itself when it has that shape already."""
        return x if ops.tile_of(x).shape == tuple(shape) else self.insert(ops.BroadcastOp(x, shape))

    def convert(self, x: SSAValue, dtype: DType, saturate: bool = False) -> SSAValue:
        """Another element type; the tile itself when it has it already."""
        if ops.tile_of(x).dtype is dtype:
            return x
        return self.insert(ops.ConvertOp(x, dtype, saturate))

    def bitcast(self, x: SSAValue, dtype: DType) -> SSAValue:
        """The same bits in another element type of the same width."""
        return self.insert(ops.BitcastOp(x, dtype))

    def field(self, x: SSAValue, low: int, bits: int, to: int = 0) -> SSAValue:
        """``bits`` of each element from ``low`` on, moved up by ``to``."""
        return self.insert(ops.FieldOp(x, low, bits, to))

    def reduce(self, fn: str, x: SSAValue, axis: int) -> SSAValue:
        """Combine along an axis of the tile."""
        return self.insert(ops.ReduceOp(fn, x, axis))

    def transpose(self, x: SSAValue) -> SSAValue:
        """Rows as columns."""
        return self.insert(ops.TransposeOp(x))

    def interleave(self, rows: Sequence[SSAValue]) -> SSAValue:
        """Four rows of bytes as the right side of a dot, columns dealt out in fours."""
        return self.insert(ops.InterleaveOp(rows))

    def dot(self, a: SSAValue, b: SSAValue, acc: SSAValue) -> SSAValue:
        """``acc + a @ b``."""
        return self.insert(ops.DotOp(a, b, acc))

    def look_up(
        self,
        tables: SSAValue,
        tables_at: Sequence[ExprLike],
        codes: SSAValue,
        codes_at: Sequence[ExprLike],
        acc: SSAValue,
        up: int,
        ahead: int,
    ) -> SSAValue:
        """``acc + (a @ codes << up)``, from tables of the sums of ``a``."""
        at = [[as_expr(i) for i in place] for place in (tables_at, codes_at)]
        return self.insert(ops.LookUpOp(tables, at[0], codes, at[1], acc, up, ahead))

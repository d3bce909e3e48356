"""The reference meaning of a tile program: run it in numpy, tile by tile.

Out-of-range accesses that no bound masks are errors here, never wrapped around: a program that
passes touches nothing outside its buffers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir import scalars
from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.ops.pointwise import ConvertOp as NNConvert
from tapeout.ir.scalars import COMBINERS
from tapeout.ir.tile import ops
from tapeout.ir.tile.lanes import Known, at_lanes, mask
from tapeout.ir.tile.ops import bounds_of, buffer_of, index_position, tile_of

Array = np.ndarray[Any, Any]

Watch = Callable[[Operation, Array | None], None]
"""Told of every operator that runs; for loads and stores, which lanes are inside the bounds."""


def run(
    program: ops.ProgramOp,
    inputs: Sequence[Array],
    symbols: Mapping[str, int],
    *,
    backwards: bool = False,
    watch: Watch = lambda op, mask: None,
) -> list[Array]:
    """Outputs of a program for input arrays and values of its symbols.

    ``backwards`` runs parallel loops from the last iteration to the first, which must give the
    same.
    """
    state = _State(dict(symbols), backwards, watch)
    block = program.body.block
    for value, array in zip(block.args, inputs, strict=False):
        want = tuple(d.evaluate(symbols) for d in buffer_of(value).dims)
        assert array.shape == want, f"{program.sym_name.data}: {array.shape} given for {want}"
        state.buffers[value] = np.ascontiguousarray(array).reshape(want)
    for value, begin in zip(block.args[len(inputs) :], program.begun, strict=True):
        state.alloc(value)
        if begin >= 0:
            state.buffers[value] = state.buffers[block.args[begin]].copy()
    state.block(block)
    return [state.buffers[v] for v in block.args[len(inputs) :]]


class _State:
    def __init__(self, symbols: dict[str, int], backwards: bool, watch: Watch) -> None:
        self.symbols, self.backwards, self.watch = symbols, backwards, watch
        self.buffers: dict[SSAValue, Array] = {}
        self.tiles: dict[SSAValue, Array] = {}

    def alloc(self, value: SSAValue) -> None:
        spec = buffer_of(value)
        shape = tuple(d.evaluate(self.symbols) for d in spec.dims)
        # Undefined contents show up as a value that no test expects.
        fill = np.array(-77).astype(spec.dtype.numpy)
        self.buffers[value] = np.full(shape, fill, spec.dtype.numpy)

    def block(self, block: Block) -> list[Array]:
        for op in block.ops:
            if isinstance(op, ops.YieldOp):
                return [self.tiles[v] for v in op.values]
            self.run(op)
        return []

    def run(self, op: Operation) -> None:
        if not isinstance(op, ops.LoadOp | ops.StoreOp):
            self.watch(op, None)
        match op:
            case ops.ForOp():
                self.loop(op)
            case ops.AllocOp():
                self.alloc(op.buffer)
            case ops.PrefetchOp():
                pass
            case ops.LoadOp():
                self.tiles[op.y] = self.load(op)
            case ops.StoreOp():
                self.store(op)
            case ops.FullOp():
                spec = tile_of(op.y)
                with np.errstate(all="ignore"):
                    self.tiles[op.y] = np.full(spec.shape, op.value.data).astype(spec.dtype.numpy)
            case ops.IndexOp():
                shape = tile_of(op.y).shape
                value = at_lanes(op.expr.data[0], shape, self.known(op.indices))
                self.tiles[op.y] = np.broadcast_to(value, shape).astype(np.int64)
            case ops.MapOp():
                self.tiles[op.y] = scalars.evaluate(op.fn.data, *(self.tiles[x] for x in op.xs))
            case ops.BroadcastOp():
                self.tiles[op.y] = np.broadcast_to(self.tiles[op.x], tile_of(op.y).shape)
            case ops.ConvertOp():
                self.tiles[op.y] = NNConvert.reference(
                    self.tiles[op.x], to=tile_of(op.y).dtype, saturate=bool(op.saturate.data)
                )
            case ops.BitcastOp():
                x = np.ascontiguousarray(self.tiles[op.x])
                self.tiles[op.y] = x.view(tile_of(op.y).dtype.numpy)
            case ops.FieldOp():
                field = self.tiles[op.x] >> op.low.data & (1 << op.bits.data) - 1
                self.tiles[op.y] = (field << op.to.data).astype(self.tiles[op.x].dtype)
            case ops.ReduceOp():
                combine = COMBINERS[op.fn.data]
                assert isinstance(combine, np.ufunc), "a reduction combines with a ufunc"
                found = combine.reduce(self.tiles[op.x], axis=op.axis.data, keepdims=True)
                self.tiles[op.y] = found.astype(tile_of(op.y).dtype.numpy)
            case ops.TransposeOp():
                self.tiles[op.y] = self.tiles[op.x].T
            case ops.InterleaveOp():
                rows = np.concatenate([self.tiles[row] for row in op.rows])
                self.tiles[op.y] = rows[:, op.order()]
            case ops.DotOp():
                a, b, acc = (self.tiles[v] for v in (op.a, op.b, op.acc))
                self.tiles[op.y] = acc + a.astype(acc.dtype) @ b.astype(acc.dtype)
            case ops.LookUpOp():
                self.tiles[op.y] = self.look_up(op)
            case _:
                raise AssertionError(f"{op.name} has no meaning at the tile level")

    def loop(self, op: ops.ForOp) -> None:
        known = self.known(op.indices)
        lo, hi, step = (int(at_lanes(e, (1, 1), known).max()) for e in op.range.data)
        around = range(lo, hi, step)
        if self.backwards and op.kind.data == "parallel":
            around = reversed(around)
        carried = [self.tiles[v] for v in op.carried]
        for i in around:
            self.symbols[op.symbol.name] = i
            self.tiles.update(zip(op.body.block.args, carried, strict=True))
            carried = self.block(op.body.block)
        self.tiles.update(zip(op.ys, carried, strict=True))

    def known(self, indices: Sequence[SSAValue]) -> Known:
        """Values of dimensions, of loop variables and of index operands."""

        def value(s: Symbol) -> int | Array:
            position = index_position(s)
            return self.symbols[s.name] if position is None else self.tiles[indices[position]]

        return value

    def lanes(
        self, op: ops.LoadOp | ops.StoreOp, shape: Sequence[int]
    ) -> tuple[Array, tuple[Array, ...]]:
        """The mask and the buffer index of every lane; indices of masked lanes are 0."""
        known = self.known(op.indices)
        inside = mask(bounds_of(op), shape, known)
        self.watch(op, inside)
        index: list[Array] = []
        for e, size in zip(op.index.data, self.buffers[op.buffer].shape, strict=True):
            at = np.where(inside, at_lanes(e, shape, known), 0)
            bad = inside & ((at < 0) | (at >= size))
            assert not bad.any(), f"{op.name} index {e} = {at[bad][:1]} outside [0, {size})"
            index.append(at)
        return inside, tuple(index)

    def load(self, op: ops.LoadOp) -> Array:
        spec = tile_of(op.y)
        inside, index = self.lanes(op, spec.shape)
        array = self.buffers[op.buffer]
        fill = np.array(op.fill.data).astype(spec.dtype.numpy)
        if array.size == 0:
            return np.full(spec.shape, fill)
        found = array[index] if index else np.broadcast_to(array, spec.shape)
        return np.where(inside, found, fill)

    def look_up(self, op: ops.LookUpOp) -> Array:
        acc = np.array(self.tiles[op.acc])
        codes = self.piece(op.codes, op.codes_at.data, 0)
        for r in range(acc.shape[0]):
            tables = self.piece(op.tables, op.tables_at.data, r).astype(acc.dtype)
            entries = tables[:, 0] + 32 * tables[:, 1]
            for bit, step in np.ndindex(op.bits, op.steps):
                numbers = codes[bit, step // 2] >> 4 * (step % 2) & 15
                acc[r] += entries[step][numbers] << bit + op.up.data
        return acc

    def piece(self, buffer: SSAValue, at: Sequence[Expr], row: int) -> Array:
        """What lies at a place along the leading axes of a buffer, for one row of a tile."""
        found = self.buffers[buffer]
        for e in at:
            i = np.broadcast_to(at_lanes(e, (row + 1, 1), self.known(())), (row + 1, 1))[row, 0]
            assert 0 <= i < found.shape[0], f"index {e} = {i} outside [0, {found.shape[0]})"
            found = found[i]
        return found

    def store(self, op: ops.StoreOp) -> None:
        inside, index = self.lanes(op, tile_of(op.value).shape)
        array = self.buffers[op.buffer]
        if index:
            array[tuple(i[inside] for i in index)] = self.tiles[op.value][inside]
        elif inside.all():
            array[()] = self.tiles[op.value].reshape(())

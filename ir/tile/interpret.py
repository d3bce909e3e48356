"""The reference meaning of a tile program: run it in numpy, tile by tile.

Out-of-range accesses that no bound masks are errors here, never wrapped around: a program that
passes touches nothing outside its buffers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir import scalars
from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.ops.pointwise import ConvertOp as NNConvert
from tapeout.ir.scalars import COMBINERS
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import bounds_of, buffer_of, lane_axis, tile_of

Array = np.ndarray[Any, Any]

ARRAY_FUNCTIONS: Mapping[str, Any] = {
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "min": np.minimum,
    "max": np.maximum,
}
"""The calls of an expression, on the values of all lanes at once."""


def run(program: ops.ProgramOp, inputs: Sequence[Array], symbols: Mapping[str, int]) -> list[Array]:
    """Outputs of a program for input arrays and values of its symbols."""
    state = _State(dict(symbols))
    block = program.body.block
    for value, array in zip(block.args, inputs, strict=False):
        want = tuple(d.evaluate(symbols) for d in buffer_of(value).dims)
        assert array.shape == want, f"{program.sym_name.data}: {array.shape} given for {want}"
        state.buffers[value] = np.ascontiguousarray(array).reshape(want)
    for value in block.args[len(inputs) :]:
        state.alloc(value)
    state.block(block)
    return [state.buffers[v] for v in block.args[len(inputs) :]]


class _State:
    def __init__(self, symbols: dict[str, int]) -> None:
        self.symbols = symbols
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
        match op:
            case ops.ForOp():
                self.loop(op)
            case ops.AllocOp():
                self.alloc(op.buffer)
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
                value = self.number(op.expr.data[0], shape, op.indices)
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
            case ops.ReduceOp():
                combine = COMBINERS[op.fn.data].reduce  # type: ignore[attr-defined]
                self.tiles[op.y] = combine(
                    self.tiles[op.x], axis=op.axis.data, keepdims=True
                ).astype(tile_of(op.y).dtype.numpy)
            case ops.DotOp():
                a, b, acc = (self.tiles[v] for v in (op.a, op.b, op.acc))
                self.tiles[op.y] = acc + a.astype(acc.dtype) @ b.astype(acc.dtype)
            case _:
                raise AssertionError(f"{op.name} has no meaning at the tile level")

    def loop(self, op: ops.ForOp) -> None:
        lo, hi, step = (int(np.max(self.number(e, (1, 1), op.indices))) for e in op.range.data)
        carried = [self.tiles[v] for v in op.carried]
        for i in range(lo, hi, step):
            self.symbols[op.symbol.name] = i
            self.tiles.update(zip(op.body.block.args, carried, strict=True))
            carried = self.block(op.body.block)
        self.tiles.update(zip(op.ys, carried, strict=True))

    def number(self, expr: Expr, shape: Sequence[int], indices: Sequence[SSAValue]) -> Any:
        """An expression at every lane, as an array that broadcasts to ``shape``."""

        def value(s: Symbol) -> Any:
            axis = lane_axis(s)
            if axis is not None:
                return np.arange(shape[axis]).reshape(
                    [-1 if i == axis else 1 for i in range(len(shape))]
                )
            if s.name.startswith("_at"):
                return self.tiles[indices[int(s.name[3:])]]
            return self.symbols[s.name]

        total: Any = 0
        for monomial, c in expr.terms:
            term: Any = c
            for atom in monomial:
                if isinstance(atom, Symbol):
                    term = term * value(atom)
                else:
                    args = [self.number(a, shape, indices) for a in atom.args]
                    fn = ARRAY_FUNCTIONS[atom.fn]
                    term = term * fn(*args)
            total = total + term
        return total

    def lanes(
        self, op: ops.LoadOp | ops.StoreOp, shape: Sequence[int]
    ) -> tuple[Array, tuple[Array, ...]]:
        """The mask and the buffer index of every lane; indices of masked lanes are 0."""
        mask = np.ones(shape, bool)
        for e, n in bounds_of(op):
            value = self.number(e, shape, op.indices)
            mask &= np.broadcast_to(
                (value >= 0) & (value < self.number(n, shape, op.indices)), shape
            )
        array = self.buffers[op.buffer]
        index: list[Array] = []
        for e, size in zip(op.index.data, array.shape, strict=True):
            at = np.where(mask, self.number(e, shape, op.indices), 0)
            bad = mask & ((at < 0) | (at >= size))
            assert not bad.any(), f"{op.name} index {e} = {at[bad][:1]} outside [0, {size})"
            index.append(at)
        return mask, tuple(index)

    def load(self, op: ops.LoadOp) -> Array:
        spec = tile_of(op.y)
        mask, index = self.lanes(op, spec.shape)
        array = self.buffers[op.buffer]
        fill = np.array(op.fill.data).astype(spec.dtype.numpy)
        if array.size == 0:
            return np.full(spec.shape, fill)
        found = array[index] if index else np.broadcast_to(array, spec.shape)
        return np.where(mask, found, fill)

    def store(self, op: ops.StoreOp) -> None:
        mask, index = self.lanes(op, tile_of(op.value).shape)
        array = self.buffers[op.buffer]
        if index:
            array[tuple(i[mask] for i in index)] = self.tiles[op.value][mask]
        elif mask.all():
            array[()] = self.tiles[op.value].reshape(())

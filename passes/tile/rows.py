"""Pointwise kernels, reductions, and everything made of both along the same axes.

One strategy serves elementwise chains, sums, softmax and norms. The iteration space splits into
axes that are kept and axes that are reduced. Kept ones are parallel loops. Each reduction is one
pass over the reduced axes, in the order of the graph; later passes find its result in a register.
When the last axis is reduced, a pass accumulates in vectors and folds them at its end
(*horizontal*); when it is kept, vectors run along it and nothing folds (*vertical*).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, is_less, minimum
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp, identity
from tapeout.ir.ops.source import ConstantOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, ProgramOp, lane, tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.collapse import collapsed, iteration_dims
from tapeout.passes.tile.kernel_io import Machine, start, sweep
from tapeout.passes.tile.pull import Maker, Pull

# Elements per task of a one-axis kernel: enough to outweigh waking a thread.
BLOCK = 4096


def lower_rows(kernel: KernelOp, machine: Machine) -> ProgramOp:
    """The tile program of a kernel of pointwise, view and reduce operators."""
    return _Rows(collapsed(kernel), machine).build()


def title(kernel: KernelOp) -> str:
    """What the kernel computes, from its operators."""
    names: list[str] = []
    for op in kernel.body.block.ops:
        if isinstance(op, MapOp):
            names.append(op.fn.data)
        elif isinstance(op, ReduceOp):
            names.append(f"reduce {op.fn.data}")
        elif not isinstance(op, ConstantOp) and op.results:
            names.append(op.name.removeprefix("nn."))
    shape = ", ".join(map(str, spec(kernel.returned[0]).dims))
    return f"{', '.join(names) or 'copy'} -> [{shape}]"


class _Rows:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.machine = kernel, machine
        self.b: TileBuilder
        self.pull: Pull
        self.b, self.pull = start(kernel, title(kernel))
        self.dims = iteration_dims(kernel)
        self.reduces = [op for op in kernel.body.block.ops if isinstance(op, ReduceOp)]
        rank = len(self.dims)
        self.reduced = sorted({a % rank for op in self.reduces for a in op.axes.data})
        wide = [a for a, d in enumerate(self.dims) if d != 1]
        self.axis = wide[-1] if wide else len(self.dims) - 1
        self.horizontal = self.axis in self.reduced
        self.index: list[Expr] = [ZERO] * len(self.dims)

    @property
    def widths(self) -> list[int]:
        """Vector widths of a pass: four vectors at once, then one."""
        lanes = self.machine.lanes
        size = self.dims[self.axis] if self.dims else ONE
        return [lanes] if is_less(size, 4 * lanes) else [4 * lanes, lanes]

    def build(self) -> ProgramOp:
        if not self.dims:
            with self.b.parallel("i", 1):
                self.finish_point((), 1)
            return self.b.program
        kept = [a for a in range(len(self.dims)) if a not in self.reduced and self.dims[a] != 1]
        outer = [a for a in kept if a != self.axis]
        self.outer_loops(outer)
        return self.b.program

    def outer_loops(self, axes: Sequence[int]) -> None:
        """Parallel loops over the kept axes, then what happens in one of their iterations."""
        if axes:
            with self.b.parallel("ijlmnopq"[min(len(axes), 8) - 1], self.dims[axes[0]]) as loop:
                self.index[axes[0]] = loop.iv
                self.outer_loops(axes[1:])
            return
        if self.horizontal:
            if all(self.index[a] == 0 for a in range(len(self.dims))):
                with self.b.parallel("i", 1):
                    self.row()
            else:
                self.row()
            return
        if self.reduces or any(i != 0 for i in self.index):
            self.columns(ZERO, self.dims[self.axis])
            return
        size = self.dims[self.axis]
        with self.b.parallel("block", size, BLOCK) as loop:
            self.columns(loop.iv, minimum(loop.iv + BLOCK, size))

    # Vertical: vectors along a kept axis

    def columns(self, lo: Expr, hi: Expr) -> None:
        """Sweep the kept last axis; all passes happen within one vector of it."""
        if self.parallel_columns():
            with self.b.parallel("block", hi, self.widths[0] * 4) as loop:
                self.sweep_columns(loop.iv, minimum(loop.iv + self.widths[0] * 4, hi))
        else:
            self.sweep_columns(lo, hi)

    def parallel_columns(self) -> bool:
        """A lone kept axis in a reduction is where its parallelism has to come from."""
        return bool(self.reduces) and all(i == 0 for i in self.index)

    def sweep_columns(self, lo: Expr, hi: Expr) -> None:
        def body(first: Expr, width: int, bounds: Bounds, _: list[SSAValue]) -> list[SSAValue]:
            self.index[self.axis] = first + lane(1, width)
            self.bounds, self.width = tuple(bounds), width
            for op in self.reduces:
                self.pull.made[op.y] = self.hold(self.vertical(op))
            self.finish()
            return []

        sweep(self.b, self.pull, "j", lo, hi, self.widths, [[], []], body)

    def vertical(self, op: ReduceOp) -> SSAValue:
        start_tile = self.b.full(
            identity(op.fn.data, spec(op.x).dtype.numpy), (1, self.width), spec(op.x).dtype
        )

        def point(carried: list[SSAValue]) -> list[SSAValue]:
            x = self.pull.at(op.x, self.index, (1, self.width), self.bounds)
            return [self.combine(op.fn.data, carried[0], x)]

        return self.nest(self.reduced, [start_tile], point)[0]

    # Horizontal: vectors along a reduced axis

    def row(self) -> None:
        """All passes over one row, then what is left of it."""
        with self.pull.scope():
            for op in self.reduces:
                self.pull.made[op.y] = self.hold(self.fold(op))
            self.finish()

    def fold(self, op: ReduceOp) -> SSAValue:
        """One pass: accumulate in vectors, then fold them into one number."""
        fn, dtype = op.fn.data, spec(op.x).dtype
        start_value = identity(fn, dtype.numpy)
        starts = [self.b.full(start_value, (1, w), dtype) for w in self.widths]
        scratch = self.scratch_for(op)

        def point(carried: list[SSAValue]) -> list[SSAValue]:
            def body(
                first: Expr, width: int, bounds: Bounds, inner: list[SSAValue]
            ) -> list[SSAValue]:
                self.index[self.axis] = first + lane(1, width)
                x = self.pull.at(op.x, self.index, (1, width), tuple(bounds))
                if scratch is not None:
                    self.b.store(x, scratch, self.place(), bounds)
                return [self.combine(fn, inner[0], self.masked(x, width, bounds, start_value))]

            groups = sweep(
                self.b,
                self.pull,
                "k",
                0,
                self.dims[self.axis],
                self.widths,
                [[c] for c in carried],
                body,
            )
            return [g[0] for g in groups]

        others = [a for a in self.reduced if a != self.axis]
        totals = [self.b.reduce(fn, t, 1) for t in self.nest(others, starts, point)]
        if scratch is not None:
            self.pull.made[op.x] = self.reload(scratch)
        total = totals[0]
        for other in totals[1:]:
            total = self.combine(fn, total, other)
        return total

    def masked(self, x: SSAValue, width: int, bounds: Bounds, start_value: float) -> SSAValue:
        """Lanes beyond the row become the identity."""
        for e, n in bounds:
            inside = self.b.map("lt", self.b.index(e, (1, width)), self.b.index(n, (1, 1)))
            other = self.b.full(start_value, (1, 1), tile_of(x).dtype)
            x = self.b.map("where", inside, x, other)
        return x

    def scratch_for(self, op: ReduceOp) -> SSAValue | None:
        """A row of scratch for a computed operand that later passes read again."""
        computed = isinstance(op.x.owner, MapOp | ConvertOp)
        if not computed or op.x in self.pull.made or len(list(op.x.uses)) < 2:
            return None
        return self.b.alloc([self.dims[a] for a in self.reduced], spec(op.x).dtype)

    def place(self) -> list[Expr]:
        return [self.index[a] for a in self.reduced]

    def reload(self, scratch: SSAValue) -> Maker:
        def maker(
            index: tuple[Expr, ...], shape: tuple[int, ...], bounds: tuple[tuple[Expr, Expr], ...]
        ) -> SSAValue:
            return self.b.load(scratch, [index[a] for a in self.reduced], shape, bounds)

        return maker

    # Both

    def combine(self, fn: str, a: SSAValue, b: SSAValue) -> SSAValue:
        names = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}
        return self.b.map(names.get(fn, fn), a, b)

    def hold(self, tile: SSAValue) -> Maker:
        """A reduction's result, wherever it is read along the row."""
        return lambda index, shape, bounds: tile

    def nest(
        self,
        axes: Sequence[int],
        carried: list[SSAValue],
        point: Callable[[list[SSAValue]], list[SSAValue]],
    ) -> list[SSAValue]:
        """Serial loops over axes around ``point``, which maps carried tiles to the next ones."""
        axes = [a for a in axes if self.dims[a] != 1]
        if not axes:
            return point(carried)
        with self.b.loop("r", 0, self.dims[axes[0]], 1, carried) as loop, self.pull.scope():
            self.index[axes[0]] = loop.iv
            loop.next = self.nest(axes[1:], loop.carried, point)
        self.index[axes[0]] = ZERO
        return loop.results

    def finish(self) -> None:
        """Store every result: along the whole row, or one value for it."""
        full = [i for i, v in enumerate(self.kernel.returned) if spec(v).dims == self.dims]
        short = [i for i in range(len(self.kernel.returned)) if i not in full]
        width = 1 if self.horizontal else self.width
        if not self.reduced:
            full, short = [*full, *short], []
        for i in short:
            self.store(i, width, () if self.horizontal else self.bounds)
        if not full:
            return

        def point(_: list[SSAValue]) -> list[SSAValue]:
            if not self.horizontal:
                for i in full:
                    self.store(i, self.width, self.bounds)
                return []

            def body(first: Expr, w: int, bounds: Bounds, _: list[SSAValue]) -> list[SSAValue]:
                self.index[self.axis] = first + lane(1, w)
                for i in full:
                    self.store(i, w, tuple(bounds))
                return []

            sweep(self.b, self.pull, "j", 0, self.dims[self.axis], self.widths, [[], []], body)
            return []

        self.nest([a for a in self.reduced if a != self.axis or not self.horizontal], [], point)

    def finish_point(self, bounds: Bounds, width: int) -> None:
        """Store results of rank 0."""
        for value, buffer in zip(self.kernel.returned, self.b.outputs, strict=True):
            tile = self.pull.at(value, (), (1, 1))
            self.b.store(tile, buffer, (), bounds)

    def store(self, i: int, width: int, bounds: Bounds) -> None:
        value = self.kernel.returned[i]
        dims = spec(value).dims
        along = self.index
        if len(dims) < len(self.dims):
            along = [e for a, e in enumerate(self.index) if a not in self.reduced]
        index = [ZERO if d == 1 else e for d, e in zip(dims, along, strict=True)]
        tile = self.b.broadcast(self.pull.at(value, index, (1, width), tuple(bounds)), (1, width))
        kept = [(e, n) for e, n in bounds] if width > 1 else []
        self.b.store(tile, self.b.outputs[i], index, kept)

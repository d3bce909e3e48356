"""Pointwise kernels, reductions, and everything made of both along the same axes.

One strategy serves elementwise chains, sums, softmax and norms. The iteration space splits into
axes that are kept and axes that are reduced. Kept ones are parallel loops. Each reduction is one
pass over the reduced axes, in the order of the graph; later passes find its result in a register.
When the last axis is reduced, a pass accumulates in vectors and folds them at its end
(*horizontal*); when it is kept, vectors run along it and nothing folds (*vertical*).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, Expr, minimum
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import ConstantOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, ProgramOp, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.collapse import collapsed
from tapeout.passes.tile.kernel_io import Machine, start, sweep
from tapeout.passes.tile.places import Pairs
from tapeout.passes.tile.row_folds import held, horizontal, vertical
from tapeout.passes.tile.row_space import RowSpace

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
        self.kernel = kernel
        self.b, self.pull = start(kernel, title(kernel))
        self.space = RowSpace(kernel, machine, self.b, self.pull)

    def build(self) -> ProgramOp:
        if self.space.dims:
            self.outer_loops(self.space.outer)
        else:
            with self.b.parallel("i", 1):
                self.point()
        return self.b.program

    def outer_loops(self, axes: Sequence[int]) -> None:
        """Parallel loops over the kept axes, then what happens in one of their iterations."""
        if axes:
            name = "ijlmnopq"[min(len(axes), 8) - 1]
            with self.b.parallel(name, self.space.dims[axes[0]]) as loop:
                self.space.index[axes[0]] = loop.iv
                self.outer_loops(axes[1:])
        elif self.space.is_horizontal:
            self.row()
        else:
            self.columns()

    # Horizontal: vectors along a reduced axis

    def row(self) -> None:
        """All passes over one row, then what is left of it."""
        if self.space.is_one_line:
            with self.b.parallel("i", 1):
                self.passes()
        else:
            self.passes()

    def passes(self) -> None:
        with self.pull.scope():
            for op in self.space.reduces:
                self.pull.made[op.y] = held(horizontal(self.space, op))
            full, short = self.results()
            self.store(short, 1, ())
            if full:
                others = [a for a in self.space.reduced if a != self.space.axis]
                self.space.nest(others, [], lambda _: self.store_row(full))

    def store_row(self, results: Sequence[int]) -> list[SSAValue]:
        """Store results along the whole vector axis."""

        def body(first: Expr, width: int, bounds: Bounds, _: object) -> list[SSAValue]:
            self.space.index[self.space.axis] = first + lane(1, width)
            self.store(results, width, tuple(bounds))
            return []

        self.space.along("j", [[], []], body)
        return []

    # Vertical: vectors along a kept axis

    def columns(self) -> None:
        """Sweep the kept last axis, in blocks when there is no other parallel loop."""
        space = self.space
        size = space.dims[space.axis]
        if not space.is_one_line:
            self.sweep_columns(ZERO, size)
            return
        # In a reduction, a lone kept axis is where its parallelism has to come from.
        block = space.widths[0] * 4 if space.reduces else BLOCK
        with self.b.parallel("block", size, block) as loop:
            self.sweep_columns(loop.iv, minimum(loop.iv + block, size))

    def sweep_columns(self, lo: Expr, hi: Expr) -> None:
        """All passes happen within one vector of the kept axis."""

        def body(first: Expr, width: int, bounds: Bounds, _: object) -> list[SSAValue]:
            self.space.index[self.space.axis] = first + lane(1, width)
            self.vector(width, tuple(bounds))
            return []

        sweep(self.b, self.pull, "j", lo, hi, self.space.widths, [[], []], body)

    def vector(self, width: int, bounds: Pairs) -> None:
        for op in self.space.reduces:
            self.pull.made[op.y] = held(vertical(self.space, op, width, bounds))
        full, short = self.results()
        self.store(short, width, bounds)
        if full:
            self.space.nest(self.space.reduced, [], lambda _: self.store(full, width, bounds))

    # Both

    def results(self) -> tuple[list[int], list[int]]:
        """The results that run along all axes, and those that have one value per row."""
        everything = range(len(self.kernel.returned))
        if not self.space.reduced:
            return list(everything), []
        full = [i for i in everything if spec(self.kernel.returned[i]).dims == self.space.dims]
        return full, [i for i in everything if i not in full]

    def store(self, results: Sequence[int], width: int, bounds: Pairs) -> list[SSAValue]:
        """Pull results at the present index and store them."""
        for i in results:
            value = self.kernel.returned[i]
            dims, along = spec(value).dims, self.space.index
            if len(dims) < len(along):
                along = [e for a, e in enumerate(along) if a not in self.space.reduced]
            index = [ZERO if d == 1 else e for d, e in zip(dims, along, strict=True)]
            tile = self.b.broadcast(self.pull.at(value, index, (1, width), bounds), (1, width))
            self.b.store(tile, self.b.outputs[i], index, bounds if width > 1 else ())
        return []

    def point(self) -> None:
        """Store results of rank 0."""
        for value, buffer in zip(self.kernel.returned, self.b.outputs, strict=True):
            self.b.store(self.pull.at(value, (), (1, 1)), buffer, ())

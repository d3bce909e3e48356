"""The index space of a kernel of rows: which axes are kept, which reduced, where vectors run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, is_less
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds
from tapeout.passes.tile.collapse import iteration_dims
from tapeout.passes.tile.kernel_io import Machine, sweep
from tapeout.passes.tile.pull import Pull

Carried = Sequence[SSAValue]

COMBINE: Mapping[str, str] = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}
"""The scalar function of a reduction, where it has another name."""


class RowSpace:
    """Where a strategy of rows stands: ``index`` holds the place along every axis.

    ``axis`` is the one that vectors run along: the last that is not of size 1.
    """

    def __init__(self, kernel: KernelOp, machine: Machine, b: TileBuilder, pull: Pull) -> None:
        self.b, self.pull, self.machine = b, pull, machine
        self.dims = iteration_dims(kernel)
        self.reduces = [op for op in kernel.body.block.ops if isinstance(op, ReduceOp)]
        rank = len(self.dims)
        self.reduced: list[int] = sorted({a % rank for op in self.reduces for a in op.axes.data})
        wide = [a for a, d in enumerate(self.dims) if d != 1]
        self.axis = wide[-1] if wide else rank - 1
        self.index: list[Expr] = [ZERO] * rank

    @property
    def is_horizontal(self) -> bool:
        """Whether vectors run along a reduced axis."""
        return self.axis in self.reduced

    @property
    def outer(self) -> list[int]:
        """The kept axes that vectors do not run along."""
        kept = [a for a, d in enumerate(self.dims) if a not in self.reduced and d != 1]
        return [a for a in kept if a != self.axis]

    @property
    def is_one_line(self) -> bool:
        """Whether no loop over an axis is open."""
        return all(i == 0 for i in self.index)

    @property
    def widths(self) -> list[int]:
        """Vector widths of a pass: four vectors at once, then one."""
        lanes = self.machine.lanes
        size = self.dims[self.axis] if self.dims else ONE
        return [lanes] if is_less(size, 4 * lanes) else [4 * lanes, lanes]

    def combine(self, fn: str, a: SSAValue, b: SSAValue) -> SSAValue:
        """Two tiles combined as a reduction does."""
        return self.b.map(COMBINE.get(fn, fn), a, b)

    def nest(
        self, axes: Sequence[int], carried: Carried, point: Callable[[Carried], Carried]
    ) -> Carried:
        """Serial loops over axes around ``point``, which maps carried tiles to the next ones."""
        axes = [a for a in axes if self.dims[a] != 1]
        if not axes:
            return point(carried)
        with self.b.loop("r", 0, self.dims[axes[0]], 1, carried) as loop, self.pull.scope():
            self.index[axes[0]] = loop.iv
            loop.next = list(self.nest(axes[1:], loop.carried, point))
        self.index[axes[0]] = ZERO
        return loop.results

    def along(
        self,
        name: str,
        carried: Sequence[Carried],
        body: Callable[[Expr, int, Bounds, list[SSAValue]], Sequence[SSAValue]],
    ) -> list[list[SSAValue]]:
        """Sweep the whole vector axis; see :func:`sweep`."""
        size = self.dims[self.axis]
        return sweep(self.b, self.pull, name, 0, size, self.widths, carried, body)

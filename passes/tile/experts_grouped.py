"""Products with weights of few bits in which every row names its own.

Rows are listed by expert, and their bytes, scales and sums gathered in that order. Tasks are blocks
of columns of one expert, whose rows then stand side by side: the rest is as in ``grouped.py``, with
the panels of all experts one after the other.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.expr import Expr, minimum
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.by_expert import COLUMNS, ByExpert
from tapeout.passes.tile.grouped import Grouped, panels_of
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack, sweep
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.pull import NotPullable, Pull

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackEach:
    """``[E, N, *]`` to the panels of each expert, one after the other."""

    pack: Pack

    def __call__(self, array: Array) -> Array:
        """Pack one matrix after the other."""
        return np.concatenate([self.pack(matrix) for matrix in array])


def lower_experts_grouped(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a grouped product by experts."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, ExpertGroupedMatmulOp))
    weights = [v for v in (root.codes, root.scale, root.zero) if v is not None]
    if not all(isinstance(v, BlockArgument) and v.index in constants for v in weights):
        raise NotPullable("codes and scales are packed when compiling")
    made = _ExpertsGrouped(kernel, machine, root).build()
    return Lowered(made.program, {at: PackEach(pack) for at, pack in made.packs.items()})


class _ExpertsGrouped(Grouped[ExpertGroupedMatmulOp]):
    def all_panels(self) -> Expr:
        return spec(self.root.codes).dims[0] * super().all_panels()

    def loops(self) -> None:
        experts = spec(self.root.codes).dims[0]
        self.by_expert = ByExpert(self.b, self.pull, self.root.experts, experts)
        self.gather()
        columns = COLUMNS // (self.panels * self.width) * self.panels * self.width
        with self.b.parallel("c", self.n, columns) as c, self.b.parallel("e", experts) as e:
            with self.pull.scope():
                self.task(e.iv, c.iv, minimum(c.iv + columns, self.n))

    def gather(self) -> None:
        """From here on the left side has the order of the list."""
        root = self.root
        sides = [root.a, root.a_scale, root.sums]
        near = [self.b.alloc(spec(v).dims, spec(v).dtype, "shared") for v in sides]
        with self.b.parallel("r", self.m) as place, self.by_expert.row(place.iv) as row:
            for value, scratch in zip(sides, near, strict=True):
                self.copy(value, row, scratch, place.iv)
        sorted_ = dict(zip(sides, near, strict=True))
        self.pull = Pull(self.b, {**self.pull.buffers, **sorted_})

    def copy(self, value: SSAValue, row: Expr, scratch: SSAValue, place: Expr) -> None:
        """Put a row where the list has it."""

        def part(first: Expr, width: int, bounds: Bounds, _: list[SSAValue]) -> list[SSAValue]:
            column = first + lane(1, width)
            tile = self.pull.at(value, [row, column], (1, width), tuple(bounds))
            tile = self.b.broadcast(tile, (1, width))
            self.b.store(tile, scratch, [place, column], bounds)
            return []

        sweep(self.b, self.pull, "k", 0, spec(value).dims[1], [self.machine.lanes], [[]], part)

    def task(self, e: Expr, first: Expr, last: Expr) -> None:
        """The rows of an expert times a block of its columns."""
        b, width = self.b, self.panels * self.width
        lo, hi = self.by_expert.ends_of(e)
        count, begin = b.map("sub", hi, lo), index_operand(0)
        before = e * (panels_of(int(self.n), self.width) * self.width)
        with b.loop("r", begin, begin + 1, indices=[lo]) as r:
            with b.loop("j", first, last, width) as j, self.pull.scope():
                for start, end, size in row_blocks(index_operand(0), self.rows):
                    with b.loop("i", start, end, size, indices=[count]) as i, self.pull.scope():
                        place = r.iv + i.iv + lane(0, size)
                        for q, total in enumerate(self.sum(place, before + j.iv, size)):
                            column = j.iv + q * self.width + lane(1, self.width)
                            self.put(total, place, column, size)

    def put(self, total: SSAValue, place: Expr, column: Expr, size: int) -> None:
        """Store sums to the rows that the list names."""
        rows = self.b.load(self.by_expert.listed, [place], (size, 1))
        cut = self.n % (self.panels * self.width) != 0
        bounds = ((column, self.n),) if cut else ()
        self.b.store(total, self.b.outputs[0], [index_operand(0), column], bounds, [rows])

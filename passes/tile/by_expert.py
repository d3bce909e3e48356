"""Rows listed by the expert that each of them names, in their order."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.loops import parallel
from tapeout.passes.tile.places import number, wrapped
from tapeout.passes.tile.pull import Pull

COLUMNS = 256
"""Columns of a task: sums of all its rows stay in L2, and few rows make tasks for all threads."""


class ByExpert:
    """A list of all rows; those of expert ``e`` stand from ``ends[e]`` to ``ends[e + 1]`` in it.

    Made by counting, at the start of the program, from ``named [T]`` and the number of experts.
    """

    def __init__(self, b: TileBuilder, pull: Pull, named: SSAValue, experts: Expr) -> None:
        """Count the rows of each expert, add up where they start, and list them."""
        self.b, self.pull, self.named, self.experts = b, pull, named, experts
        (self.tokens,) = spec(named).dims
        self.ends = b.alloc([experts + 1], i64, "shared")
        self.listed = b.alloc([self.tokens], i64, "shared")
        here, after = index_operand(0), [index_operand(0) + 1]
        with parallel(b, pull, {}):
            zero, one = number(b, 0), number(b, 1)
            with b.loop("e", 0, experts + 1) as e:
                b.store(zero, self.ends, [e.iv])
            with b.loop("t", 0, self.tokens) as t, pull.scope():
                own = self.expert_of(t.iv)
                count = b.load(self.ends, after, (1, 1), indices=[own])
                b.store(b.map("add", count, one), self.ends, after, (), [own])
            with b.loop("e", 0, experts, 1, [zero]) as e:
                count = b.load(self.ends, [e.iv + 1], (1, 1))
                b.store(e.carried[0], self.ends, [e.iv + 1])
                e.next = [b.map("add", e.carried[0], count)]
            # An expert's end moves from where it starts to where the next one does.
            with b.loop("t", 0, self.tokens) as t, pull.scope():
                own = self.expert_of(t.iv)
                end = b.load(self.ends, after, (1, 1), indices=[own])
                b.store(number(b, t.iv), self.listed, [here], [(here, self.tokens)], [end])
                b.store(b.map("add", end, one), self.ends, after, (), [own])

    def expert_of(self, row: Expr) -> SSAValue:
        """The expert that a row names, held inside."""
        return wrapped(self.b, self.pull.at(self.named, [row], (1, 1)), self.experts)

    def ends_of(self, expert: Expr) -> tuple[SSAValue, SSAValue]:
        """Where the rows of an expert begin and end in the list."""
        first, last = (self.b.load(self.ends, [expert + i], (1, 1)) for i in range(2))
        return first, last

    @contextmanager
    def row(self, place: Expr) -> Generator[Expr]:
        """The row that the list names at a place, as a symbol: a loop that runs once."""
        at, found = index_operand(0), self.b.load(self.listed, [place], (1, 1))
        with self.b.loop("t", at, at + 1, indices=[found]) as loop, self.pull.scope():
            yield loop.iv

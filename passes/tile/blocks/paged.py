"""Attention on a paged cache: a token's heads of one group are the rows of a tile.

A program has a token, a group, and a chunk of its sequence's pages, whose keys it reads once; a
second function merges the chunks in their order. Chunks begin at multiples of a number of pages,
so that a token gets the same bits whatever stands beside it, and nothing depends on which program
came first. Where tokens are many, a program has all chunks of its token.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import AbstractContextManager

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i32
from tapeout.ir.expr import Expr, as_expr, minimum
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import Loop
from tapeout.ir.tile.ops import index_operand, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.blocks.attention import DEEPEST
from tapeout.passes.tile.blocks.axes import cut, power_of_two
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.product import block
from tapeout.passes.tile.kernel_io import Lowered
from tapeout.passes.tile.pages import Pages, Partial, Seen
from tapeout.passes.tile.places import NotPullable, number
from tapeout.passes.tile.scores import scaled

LINES = 128
"""The most slots of a page, which is one step."""

State = tuple[Partial, SSAValue]
"""A partial, and its sum of values ``[rows, columns]``."""


def lower_paged_attention(kernel: KernelOp, machine: BlockMachine, _: Set[int]) -> Lowered:
    """The tile program of attention on a paged cache."""
    return _Paged(kernel, machine).build()


class _Paged(Pages):
    def __init__(self, kernel: KernelOp, machine: BlockMachine) -> None:
        super().__init__(kernel)
        least, self.most = machine.least_dot, machine.programs
        self.rows = power_of_two(self.share, machine.tile_m, least)
        self.deep = power_of_two(self.depth, DEEPEST, least)
        self.columns = power_of_two(self.depth_v, DEEPEST, least)
        self.step = power_of_two(self.lines, LINES, least)
        for size, held in (
            (self.share, self.rows),
            (self.depth, self.deep),
            (self.depth_v, self.columns),
            (self.lines, self.step),
        ):
            if size.constant is None or size.constant > held:
                raise NotPullable("the heads of a group, and a page, are held at once")
        self.row, self.column = lane(0, self.rows), lane(1, self.columns)
        self.kept = cut(self.row, self.share, self.rows)
        self.across = cut(self.column, self.depth_v, self.columns)

    def build(self) -> Lowered:
        """A program per chunk where tokens are few, else one per token and group."""
        b, few = self.b, self.few(self.most)
        if few.constant != 0:
            self.split(self.tokens * few)
        if few.constant != 1:
            tokens = self.tokens * (1 - few)
            with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
                seen, query = self.seen(t.iv), self.query(t.iv, g.iv)
                with self.chunks(seen) as c, self.pull.scope():
                    one = self.chunk(query, t.iv, g.iv, seen, c.iv, self.empty())
                    c.next = self.joined(self.state(c.carried), one)
                self.finish(t.iv, g.iv, self.state(c.results))
        return Lowered(b.program)

    def split(self, tokens: Expr) -> None:
        """The partials of chunks, and then those of tokens."""
        b, most, dims = self.b, minimum(self.tokens, self.most), (self.rows, self.columns)
        place = (most, self.groups, self.all_chunks)
        sums = b.alloc([*place, *map(as_expr, dims)], self.dtype, "shared")
        marks = b.alloc([*place, as_expr(2), as_expr(self.rows)], self.dtype, "shared")
        with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
            with b.parallel("c", self.all_chunks) as c:
                at = [t.iv, g.iv, c.iv]
                seen = self.seen(t.iv)
                # Once for a chunk that the token sees something of.
                lo, hi = self.of_chunk(seen, c.iv)
                some = b.map("min", b.map("sub", hi, lo), number(b, 1))
                with b.loop("some", 0, index_operand(0), 1, indices=[some]), self.pull.scope():
                    query = self.query(t.iv, g.iv)
                    one, values = self.chunk(query, t.iv, g.iv, seen, c.iv, self.empty())
                    b.store(values, sums, [*at, self.row, self.column])
                    for n, mark in enumerate((one.top, one.total)):
                        b.store(mark, marks, [*at, as_expr(n), self.row])
        with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
            with self.chunks(self.seen(t.iv)) as c, self.pull.scope():
                at = [t.iv, g.iv, c.iv]
                values = b.load(sums, [*at, self.row, self.column], dims)
                top, total = (
                    b.load(marks, [*at, as_expr(n), self.row], (self.rows, 1)) for n in range(2)
                )
                c.next = self.joined(self.state(c.carried), (Partial(top, total), values))
            self.finish(t.iv, g.iv, self.state(c.results))

    def chunks(self, seen: Seen) -> AbstractContextManager[Loop]:
        """Open a loop over the chunks that a token sees, which carries a partial."""
        lo, hi, ends = index_operand(0), index_operand(1), self.seen_chunks(seen)
        return self.b.loop("c", lo, hi, 1, self.empty(), indices=ends)

    def empty(self) -> list[SSAValue]:
        """The partial of no keys, as loops carry it."""
        zero = self.b.full(0, (self.rows, self.columns), self.dtype)
        return [*self.nothing(self.rows), zero]

    @staticmethod
    def state(carried: Sequence[SSAValue]) -> State:
        """What a loop carries, as a partial."""
        top, total, values = carried
        return Partial(top, total), values

    def joined(self, one: State, other: State) -> list[SSAValue]:
        """Two partials as one."""
        merged, keep, take = self.merged(one[0], other[0])
        kept = self.b.map("mul", one[1], keep)
        return [merged.top, merged.total, self.b.map("fma", other[1], take, kept)]

    def query(self, t: Expr, g: Expr) -> SSAValue:
        """A token's heads of a group."""
        along = lane(1, self.deep)
        index, beyond = [t, g * self.share + self.row, along], cut(along, self.depth, self.deep)
        return block(self.pull, self.root.q, index, (self.rows, self.deep), self.kept, beyond)

    def chunk(
        self,
        query: SSAValue,
        t: Expr,
        g: Expr,
        seen: Seen,
        number_of: Expr,
        before: Sequence[SSAValue],
    ) -> State:
        """The partial of a chunk's pages."""
        b = self.b
        sequence = self.place(self.root.sequence, [t], spec(self.root.table).dims[0])
        lo, hi, ends = index_operand(0), index_operand(1), self.of_chunk(seen, number_of)
        with b.loop("l", lo, hi, 1, before, indices=ends) as n, self.pull.scope():
            n.next = self.page(query, g, seen, n.iv, self.table(sequence, n.iv), n.carried)
        return self.state(n.results)

    def page(
        self,
        query: SSAValue,
        g: Expr,
        seen: Seen,
        place: Expr,
        page: SSAValue,
        carried: Sequence[SSAValue],
    ) -> list[SSAValue]:
        """A page more."""
        b, dtype = self.b, self.dtype
        (before, values), base = self.state(carried), number(b, place * self.lines)
        k = self.load(self.root.keys, [g, lane(0, self.deep), lane(1, self.step)], page)
        s = b.dot(query, k, b.full(0, (self.rows, self.step), dtype))
        s = scaled(b, self.root, s)
        s = b.map("where", self.visible(seen, base, 1), s, self.literal(float("-inf")))
        top = b.map("max", before.top, b.reduce("max", s, 1))
        even = self.finite(top)
        p, shrunk = (b.map("exp", b.map("sub", x, even)) for x in (s, before.top))
        v = self.load(self.root.values, [g, lane(0, self.step), self.column], page)
        # What no token has written may be no number, and none of it becomes 0 by a weight of 0.
        nothing = b.full(0, (1, 1), spec(self.root.values).dtype)
        v = b.map("where", self.visible(seen, base, 0), v, nothing)
        p_narrow = b.convert(p, spec(self.root.values).dtype)
        values = b.dot(p_narrow, v, b.map("mul", values, shrunk))
        total = b.map("fma", before.total, shrunk, b.reduce("sum", p, 1))
        return [top, total, values]

    def load(self, pool: SSAValue, index: list[Expr], page: SSAValue) -> SSAValue:
        """A page of a pool, with zeros beyond its sizes."""
        rows, columns = spec(pool).dims[2:]
        is_turned = pool is self.root.keys
        shape = (self.deep, self.step) if is_turned else (self.step, self.columns)
        bounds = (*cut(index[1], rows, shape[0]), *cut(index[2], columns, shape[1]))
        buffer = self.pull.buffers[pool]
        return self.b.load(buffer, [index_operand(0), *index], shape, bounds, indices=[page])

    def visible(self, seen: Seen, base: SSAValue, axis: int) -> SSAValue:
        """Which lines of a page are seen, along an axis."""
        b = self.b
        shape = (1, self.step) if axis else (self.step, 1)
        # Places count from the page's first line.
        low, high, end = (
            b.convert(b.map("sub", x, base), i32) for x in (seen.first, seen.until, seen.end)
        )
        line = b.convert(b.index(lane(axis, self.step), shape), i32)
        found = b.map("and", b.map("ge", line, low), b.map("lt", line, high))
        if seen.tree is not None:
            behind = b.map("sub", line, end)
            bits = b.map("shift_right", seen.tree, b.convert(behind, spec(self.root.tree).dtype))
            named = b.map("ne", b.map("and", bits, number(b, 1)), number(b, 0))
            before = b.map("lt", behind, b.full(0, (1, 1), i32))
            found = b.map("and", found, b.map("or", before, named))
        if self.lines.constant != self.step:
            size = b.convert(number(b, self.lines), i32)
            found = b.map("and", found, b.map("lt", line, size))
        return found

    def finish(self, t: Expr, g: Expr, last: State) -> None:
        """Store values over the sum of exponentials; 0 where nothing is seen."""
        b, (partial, values) = self.b, last
        none = b.map("eq", partial.total, self.literal(0))
        y = b.map("div", values, b.map("where", none, self.literal(1), partial.total))
        index = [t, g * self.share + self.row, self.column]
        y = b.convert(y, spec(self.root.y).dtype)
        b.store(y, b.outputs[0], index, (*self.kept, *self.across))

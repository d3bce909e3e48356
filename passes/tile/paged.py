"""Attention on a paged cache, and writing to one.

A token and a block of a group's heads are a task (see ``pages.py`` for what is computed in which
order). Where tokens are few, the chunks of a long sequence are tasks of their own, merged
afterwards in the same order, so that all threads share its keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from contextlib import AbstractContextManager

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i32, i64
from tapeout.ir.expr import Expr, as_expr, minimum
from tapeout.ir.ops.paged import WriteSlotsOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import Loop
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.types import IntsAttr, spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, start
from tapeout.passes.tile.pages import Pages, Partial, Seen
from tapeout.passes.tile.places import clamped, number
from tapeout.passes.tile.product import row_blocks
from tapeout.passes.tile.scores import scaled

SPLIT = 64
"""Tokens times groups up to which chunks are tasks: more keep all threads busy by themselves."""


def lower_write_slots(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of a write to a cache: the result begins as the pool."""
    root = next(op for op in kernel.body.block.ops if isinstance(op, WriteSlotsOp))
    tokens, groups, depth = spec(root.x).dims
    pool, turned = spec(root.pool).dims, root.turned.data
    lines = pool[3] if turned else pool[2]
    b, pull = start(
        kernel, f"[{tokens}, {groups}, {depth}] to slots of [{', '.join(map(str, pool))}]"
    )
    argument = kernel.body.block.args.index(root.pool)  # type: ignore[arg-type]
    b.program.begins = IntsAttr((argument,))
    with b.parallel("t", tokens) as t, b.parallel("g", groups) as g, pull.scope():
        slot = pull.at(root.slots, [t.iv], (1, 1))
        slot = clamped(b, b.convert(slot, i64), pool[0] * lines)
        page, line = index_operand(0) // lines, index_operand(0) % lines
        with b.loop("d", 0, depth, machine.lanes) as d, pull.scope():
            column, shape = d.iv + lane(1, machine.lanes), (1, machine.lanes)
            bounds = ((column, depth),) if depth % machine.lanes != 0 else ()
            tile = b.broadcast(pull.at(root.x, [t.iv, g.iv, column], shape, bounds), shape)
            inner = [column, line] if turned else [line, column]
            b.store(tile, b.outputs[0], [page, g.iv, *inner], bounds, [slot])
    return Lowered(b.program)


def lower_paged_attention(kernel: KernelOp, machine: Machine, _: Set[int] = frozenset()) -> Lowered:
    """The tile program of attention on a paged cache."""
    return _Paged(kernel, machine).build()


class _Paged(Pages):
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        super().__init__(kernel)
        self.width, self.rows = machine.tile_n, machine.tile_m

    def build(self) -> Lowered:
        """Tasks are tokens and groups; where these are few, chunks of pages too."""
        b, few = self.b, self.few(SPLIT)
        if few.constant != 0:
            self.split(self.tokens * few, self.all_chunks)
        if few.constant != 1:
            tokens = self.tokens * (1 - few)
            with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
                self.scratch()
                for at, size, seen, sequence in self.head_blocks(t.iv, g.iv):
                    self.token(at, size, seen, sequence)
        return Lowered(b.program)

    def scratch(self) -> None:
        columns, lines = (-(-int(n) // self.width) * self.width for n in (self.depth_v, self.lines))
        self.scores = self.b.alloc([self.rows, lines], self.dtype)
        self.whole, self.part = (self.b.alloc([self.rows, columns], self.dtype) for _ in range(2))

    def head_blocks(
        self, t: Expr, g: Expr
    ) -> Iterator[tuple[tuple[Expr, Expr, Expr], int, Seen, SSAValue]]:
        """Open a loop over a group's heads for each size of block; token, first head and group."""
        seen = self.seen(t)
        sequence = self.place(self.root.sequence, [t], spec(self.root.table).dims[0])
        for lo, hi, size in row_blocks(self.share, self.rows):
            if lo == hi:
                continue
            with self.b.loop("h", lo, hi, size) as h, self.pull.scope():
                yield (t, g * self.share + h.iv, g), size, seen, sequence

    def split(self, tokens: Expr, chunks: Expr) -> None:
        """Partials of all chunks first, then what :meth:`token` does with them, in its order."""
        b, width = self.b, self.width
        columns = -(-int(self.depth_v) // width) * width
        heads = -(-int(self.share) // self.rows) * self.rows
        most = minimum(self.tokens, SPLIT)
        # Behind a partial's values stand its greatest score and its sum.
        kept = b.alloc([most, self.groups, chunks, heads, columns + width], self.dtype, "shared")
        with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
            with b.parallel("c", chunks) as c:
                self.scratch()
                for at, size, seen, sequence in self.head_blocks(t.iv, g.iv):
                    one = self.chunk(at, size, seen, sequence, c.iv)
                    index = [t.iv, g.iv, c.iv, at[1] - g.iv * self.share + lane(0, size)]
                    for column, _ in self.columns():
                        values = b.load(self.part, [lane(0, size), column], (size, width))
                        b.store(values, kept, [*index, column])
                    b.store(one.top, kept, [*index, as_expr(columns)])
                    b.store(one.total, kept, [*index, as_expr(columns + 1)])
        with b.parallel("t", tokens) as t, b.parallel("g", self.groups) as g:
            self.scratch()
            for at, size, seen, _ in self.head_blocks(t.iv, g.iv):
                self.clear(self.whole, size)
                with self.chunks(size, seen) as c, self.pull.scope():
                    index = [t.iv, g.iv, c.iv, at[1] - g.iv * self.share + lane(0, size)]
                    one = Partial(
                        *(b.load(kept, [*index, as_expr(columns + i)], (size, 1)) for i in range(2))
                    )
                    merged, keep, take = self.merged(Partial(*c.carried), one)
                    for column, _ in self.columns():
                        part = b.load(kept, [*index, column], (size, width))
                        self.merge_values(column, part, keep, take, size)
                    c.next = [merged.top, merged.total]
                self.finish(at, size, c.results[1])

    # One token and a block of its heads

    def token(self, at: tuple[Expr, Expr, Expr], size: int, seen: Seen, sequence: SSAValue) -> None:
        self.clear(self.whole, size)
        with self.chunks(size, seen) as c, self.pull.scope():
            one = self.chunk(at, size, seen, sequence, c.iv)
            merged, keep, take = self.merged(Partial(*c.carried), one)
            for column, _ in self.columns():
                part = self.b.load(self.part, [lane(0, size), column], (size, self.width))
                self.merge_values(column, part, keep, take, size)
            c.next = [merged.top, merged.total]
        self.finish(at, size, c.results[1])

    def chunks(self, size: int, seen: Seen) -> AbstractContextManager[Loop]:
        """Open a loop over the chunks that a token sees, which carries a partial."""
        lo, hi, ends = index_operand(0), index_operand(1), self.seen_chunks(seen)
        return self.b.loop("c", lo, hi, 1, self.nothing(size), indices=ends)

    def chunk(
        self,
        at: tuple[Expr, Expr, Expr],
        size: int,
        seen: Seen,
        sequence: SSAValue,
        number_of: Expr,
    ) -> Partial:
        """The partial of a chunk's pages; its values stand in ``part``."""
        b = self.b
        self.clear(self.part, size)
        lo, hi, inner = index_operand(0), index_operand(1), self.nothing(size)
        ends = self.of_chunk(seen, number_of)
        with b.loop("l", lo, hi, 1, inner, indices=ends) as n, self.pull.scope():
            page = self.table(sequence, n.iv)
            n.next = self.page(at, size, seen, n.iv, page, Partial(*n.carried))
        return Partial(*n.results)

    def finish(self, at: tuple[Expr, Expr, Expr], size: int, total: SSAValue) -> None:
        """Store what stands in ``whole`` over the sum of exponentials; 0 where nothing is seen."""
        b = self.b
        none = b.map("eq", total, self.literal(0))
        total = b.map("where", none, self.literal(1), total)
        for column, bounds in self.columns():
            index = [lane(0, size), column]
            y = b.map("div", b.load(self.whole, index, (size, self.width)), total)
            y = b.convert(y, spec(self.root.y).dtype)
            b.store(y, b.outputs[0], [at[0], at[1] + lane(0, size), column], bounds)

    def clear(self, buffer: SSAValue, size: int) -> None:
        zero = self.b.full(0, (size, self.width), self.dtype)
        with self.b.loop("z", 0, self.depth_v, self.width) as z:
            self.b.store(zero, buffer, [lane(0, size), z.iv + lane(1, self.width)])

    # One page

    def page(
        self,
        at: tuple[Expr, Expr, Expr],
        size: int,
        seen: Seen,
        place: Expr,
        page: SSAValue,
        before: Partial,
    ) -> list[SSAValue]:
        """Add a page to what stands in ``part``."""
        b = self.b
        base = number(b, place * self.lines)
        low = b.map("max", b.map("sub", seen.first, base), number(b, 0))
        high = b.map("min", b.map("sub", seen.until, base), number(b, self.lines))
        top = self.score(at, size, page, low, high)
        if seen.tree is not None:
            top = self.prune(size, seen.tree, b.map("sub", seen.end, base), high, top)
        total = self.exponentials(top, size)
        merged, keep, take = self.merged(before, Partial(top, total))
        self.add_values(at[2], size, page, (low, high), keep, take)
        return [merged.top, merged.total]

    def score(
        self,
        at: tuple[Expr, Expr, Expr],
        size: int,
        page: SSAValue,
        low: SSAValue,
        high: SSAValue,
    ) -> SSAValue:
        """Scores of lines ``[low, high)`` of a page, others -inf; returns each row's greatest."""
        b, (t, head, group) = self.b, at
        never = b.full(-math.inf, (size, self.width), self.dtype)
        with b.loop("n", 0, self.lines, self.width, [never]) as n, self.pull.scope():
            column = n.iv + lane(1, self.width)
            cut = ((column, self.lines),) if self.lines % self.width != 0 else ()
            zero = b.full(0, (size, self.width), self.dtype)
            with b.loop("d", 0, self.depth, 1, [zero]) as d, self.pull.scope():
                q = self.pull.at(self.root.q, [t, head + lane(0, size), d.iv], (size, 1))
                keys = self.pull.buffers[self.root.keys]
                index = [index_operand(0), group, d.iv, column]
                k = b.load(keys, index, (1, self.width), cut, indices=[page])
                q, k = b.convert(q, self.dtype), b.convert(k, self.dtype)
                d.next = [b.dot(q, k, d.carried[0])]
            s = scaled(b, self.root, d.results[0])
            seen = self.visible(column, low, high)
            if cut:
                inside = b.map("lt", b.index(column, (1, self.width)), number(b, self.lines))
                seen = b.map("and", seen, inside)
            s = b.map("where", seen, s, self.literal(-math.inf))
            b.store(s, self.scores, [lane(0, size), column])
            n.next = [b.map("max", n.carried[0], s)]
        return b.reduce("max", n.results[0], 1)

    def visible(self, column: Expr, low: SSAValue, high: SSAValue) -> SSAValue:
        """Which lines of a page are seen: all places count from the page's first line."""
        b = self.b
        line = b.convert(b.index(column, (1, self.width)), i32)
        low, high = b.convert(low, i32), b.convert(high, i32)
        return b.map("and", b.map("ge", line, low), b.map("lt", line, high))

    def prune(
        self, size: int, tree: SSAValue, end: SSAValue, high: SSAValue, top: SSAValue
    ) -> SSAValue:
        """Hide what a tree does not name of lines ``[end, high)``; the greatest of what is left."""
        b = self.b
        never = b.full(-math.inf, (size, self.width), self.dtype)
        # Once where there are such lines: pages without any pay a jump.
        some = b.map("min", b.map("sub", high, end), number(b, 1))
        with b.loop("some", 0, index_operand(0), 1, [top], indices=[some]) as once:
            with b.loop("n", 0, self.lines, self.width, [never]) as n:
                column = n.iv + lane(1, self.width)
                # A shift by less than nothing, or by more than there are bits, leaves none.
                behind = b.map("sub", b.index(column, (1, self.width)), end)
                bits = b.map("and", b.map("shift_right", tree, behind), number(b, 1))
                named = b.map("ne", bits, number(b, 0))
                seen = b.map("or", b.map("lt", behind, number(b, 0)), named)
                s = b.load(self.scores, [lane(0, size), column], (size, self.width))
                s = b.map("where", seen, s, self.literal(-math.inf))
                b.store(s, self.scores, [lane(0, size), column])
                n.next = [b.map("max", n.carried[0], s)]
            once.next = [b.reduce("max", n.results[0], 1)]
        return once.results[0]

    def exponentials(self, top: SSAValue, size: int) -> SSAValue:
        """Scores to ``exp(score - greatest)`` in place; returns the sum of each row."""
        b = self.b
        top = self.finite(top)
        zero = b.full(0, (size, self.width), self.dtype)
        with b.loop("n", 0, self.lines, self.width, [zero]) as n:
            index = [lane(0, size), n.iv + lane(1, self.width)]
            s = b.load(self.scores, index, (size, self.width))
            grown = b.map("exp", b.map("sub", s, top))
            b.store(grown, self.scores, index)
            n.next = [b.map("add", n.carried[0], grown)]
        return b.reduce("sum", n.results[0], 1)

    def add_values(
        self,
        group: Expr,
        size: int,
        page: SSAValue,
        lines: tuple[SSAValue, SSAValue],
        keep: SSAValue,
        take: SSAValue,
    ) -> None:
        """``part = part * keep + (exponentials @ values) * take``."""
        b, values = self.b, self.pull.buffers[self.root.values]
        lo, hi = index_operand(0), index_operand(1)
        for column, bounds in self.columns():
            zero = b.full(0, (size, self.width), self.dtype)
            with b.loop("j", lo, hi, 1, [zero], indices=list(lines)) as j, self.pull.scope():
                p = b.load(self.scores, [lane(0, size), j.iv], (size, 1))
                index = [index_operand(0), group, j.iv, column]
                v = b.load(values, index, (1, self.width), bounds, indices=[page])
                j.next = [b.dot(p, b.convert(v, self.dtype), j.carried[0])]
            index = [lane(0, size), column]
            kept = b.map("mul", b.load(self.part, index, (size, self.width)), keep)
            b.store(b.map("fma", j.results[0], take, kept), self.part, index)

    def merge_values(
        self, column: Expr, part: SSAValue, keep: SSAValue, take: SSAValue, size: int
    ) -> None:
        """``whole = whole * keep + part * take`` for some columns."""
        b, index = self.b, [lane(0, size), column]
        whole = b.load(self.whole, index, (size, self.width))
        b.store(b.map("fma", part, take, b.map("mul", whole, keep)), self.whole, index)

    def columns(self) -> list[tuple[Expr, Bounds]]:
        """The columns of the values, as many at a time as a register tile has."""
        found: list[tuple[Expr, Bounds]] = []
        count = self.depth_v.constant
        assert count is not None, "the size of a head is known"
        for first in range(0, count, self.width):
            column = first + lane(1, self.width)
            cut = first + self.width > count
            found.append((column, ((column, self.depth_v),) if cut else ()))
        return found

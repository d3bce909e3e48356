"""Distinct elements or slices, by comparing all pairs.

Counting finds for each element its *leader*, the first one equal to it, and its *rank*, the
number of distinct ones that come before it; elements go side by side in lanes. That is
``n * n / lanes`` comparisons: right for the few thousand elements that models ask of, slow for
millions. Filling then writes every result to its rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import ONE, ZERO, Expr
from tapeout.ir.ops.sort import UniqueOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, index_operand
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator
from tapeout.passes.tile.late import counting, filling
from tapeout.passes.tile.loops import Places, lanes_along, parallel
from tapeout.passes.tile.places import number
from tapeout.passes.tile.rules.taps import nest
from tapeout.passes.tile.top_k import before


def lower_unique(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The count and the fill program of a lone unique."""
    return _Unique(kernel, machine).build()


class _Unique:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.lanes = kernel, machine.lanes
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, UniqueOp))
        self.dims = spec(self.root.x).dims
        axis = self.root.axis
        self.axis: int | None = None if axis is None else int(axis.data) % len(self.dims)
        self.size = spec(self.root.x).size if self.axis is None else self.dims[self.axis]
        self.state = [(name, BufferSpec((self.size,), i64)) for name in ("leader", "rank")]

    def build(self) -> Lowered:
        what = "elements" if self.axis is None else f"slices along axis {self.axis}"
        shape = ", ".join(map(str, self.dims))
        title = f"distinct {what} of [{shape}]"
        self.b, self.pull = counting(self.kernel, f"how many {title}", self.state)
        self.count()
        counter = self.b.program
        self.b, self.pull, given, self.target = filling(self.kernel, title, self.state)
        self.fill(*given)
        return Lowered(self.b.program, count=counter)

    # Elements and their order

    def place(self, i: Expr, at: Sequence[Expr]) -> list[Expr]:
        """The index of element ``at`` of slice ``i``."""
        if self.axis is not None:
            return [*at[: self.axis], i, *at[self.axis :]]
        index: list[Expr] = []
        for dim in reversed(self.dims[1:]):
            index.append(i % dim)
            i = i // dim
        return [i, *reversed(index)] if self.dims else []

    @property
    def inner(self) -> list[Expr]:
        """The sizes of one slice."""
        if self.axis is None:
            return []
        return [d for a, d in enumerate(self.dims) if a != self.axis]

    def order(
        self, i: Expr, j: Expr, shape: tuple[int, int], bounds: Bounds
    ) -> tuple[SSAValue, SSAValue]:
        """Whether slice ``j`` comes before ``i``, and whether it comes after it."""
        b, dtype = self.b, accumulator(spec(self.root.x).dtype)

        def step(at: tuple[Expr, ...], carried: list[SSAValue]) -> list[SSAValue]:
            low, high = carried
            x = b.convert(self.read(self.place(i, at), shape, bounds), dtype)
            y = b.convert(self.read(self.place(j, at), shape, ()), dtype)
            equal = b.map("not", b.map("or", low, high))
            first = b.map("and", equal, before(b, False, y, x))
            last = b.map("and", equal, before(b, False, x, y))
            return [b.map("or", low, first), b.map("or", high, last)]

        start = [b.full(0, shape, boolean), b.full(0, shape, boolean)]
        low, high = nest(self.pull, self.inner, start, step)
        return low, high

    def read(self, index: list[Expr], shape: tuple[int, int], bounds: Bounds) -> SSAValue:
        return self.pull.at(self.root.x, index, shape, tuple(bounds))

    # Count

    def count(self) -> None:
        leader, rank, sizes = self.b.outputs
        self.each(lambda i, shape, bounds: self.lead(leader, i, shape, bounds))
        self.each(lambda i, shape, bounds: self.place_of(leader, rank, i, shape, bounds))
        with parallel(self.b, self.pull, {}):
            zero = self.b.full(0, (1, 1), i64)
            with self.b.loop("i", 0, self.size, ONE, [zero]) as loop:
                leads = self.leads(leader, loop.iv)
                loop.next = [self.b.map("add", loop.carried[0], self.b.convert(leads, i64))]
            self.b.store(loop.results[0], sizes, [ZERO])

    def each(self, body: Callable[[Expr, tuple[int, int], Bounds], None]) -> None:
        """All elements side by side."""

        def inner(places: Places, width: int, bounds: Bounds) -> None:
            body(places[0], (1, width), bounds)

        lanes_along(self.b, self.pull, [self.size], [0], self.lanes, inner)

    def leads(self, leader: SSAValue, j: Expr) -> SSAValue:
        """Whether element ``j`` is the first of its kind."""
        return self.b.map("eq", self.b.load(leader, [j], (1, 1)), number(self.b, j))

    def lead(self, leader: SSAValue, i: Expr, shape: tuple[int, int], bounds: Bounds) -> None:
        b = self.b
        with b.loop("j", 0, self.size, ONE, [b.full(-1, shape, i64)]) as loop, self.pull.scope():
            low, high = self.order(i, loop.iv, shape, bounds)
            same = b.map("not", b.map("or", low, high))
            found = b.map("and", same, b.map("lt", loop.carried[0], number(b, 0)))
            loop.next = [b.map("where", found, number(b, loop.iv), loop.carried[0])]
        b.store(loop.results[0], leader, [i], bounds)

    def place_of(
        self, leader: SSAValue, rank: SSAValue, i: Expr, shape: tuple[int, int], bounds: Bounds
    ) -> None:
        b = self.b
        own = b.load(leader, [i], shape, bounds)
        with b.loop("j", 0, self.size, ONE, [b.full(0, shape, i64)]) as loop, self.pull.scope():
            if self.root.sorted.data:
                first, _after = self.order(i, loop.iv, shape, bounds)
            else:
                first = b.map("lt", number(b, loop.iv), own)
            counts = b.map("and", self.leads(leader, loop.iv), first)
            loop.next = [b.map("add", loop.carried[0], b.convert(counts, i64))]
        b.store(loop.results[0], rank, [i], bounds)

    # Fill

    def fill(self, leader: SSAValue, rank: SSAValue) -> None:
        b, root, target = self.b, self.root, self.target
        distinct = root.count.data[0]
        if root.counts in target:
            self.pull_zero(target[root.counts], distinct)
        with parallel(b, self.pull, {}):
            with b.loop("i", 0, self.size) as loop, self.pull.scope():
                i = loop.iv
                at = b.load(rank, [i], (1, 1))
                if root.inverse in target:
                    b.store(at, target[root.inverse], [i])
                here = index_operand(0)
                if root.counts in target:
                    inside = [(here, distinct)]
                    old = b.load(target[root.counts], [here], (1, 1), inside, indices=[at])
                    more = b.map("add", old, number(b, 1))
                    b.store(more, target[root.counts], [here], inside, [at])
                # Only the first of its kind is written; -1 is outside of every bound.
                own = b.map("where", self.leads(leader, i), at, number(b, -1))
                inside = [(here, distinct)]
                if root.first in target:
                    b.store(number(b, i), target[root.first], [here], inside, [own])
                if root.y in target:
                    self.copy(i, own, target[root.y], distinct)

    def copy(self, i: Expr, own: SSAValue, y: SSAValue, distinct: Expr) -> None:
        """Write slice ``i`` to its place."""
        here = index_operand(0)

        def step(at: tuple[Expr, ...], carried: list[SSAValue]) -> list[SSAValue]:
            x = self.read(self.place(i, at), (1, 1), ())
            index = [here] if self.axis is None else self.place(here, at)
            self.b.store(x, y, index, [(here, distinct)], [own])
            return carried

        nest(self.pull, self.inner, [], step)

    def pull_zero(self, buffer: SSAValue, size: Expr) -> None:
        """Counts start at 0."""

        def zero(places: Places, width: int, bounds: Bounds) -> None:
            self.b.store(self.b.full(0, (1, width), i64), buffer, [places[0]], bounds)

        lanes_along(self.b, self.pull, [size], [0], self.lanes, zero)

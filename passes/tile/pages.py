"""What a token's attention on pages is made of, on any machine.

Scores of some keys, their exponentials, and the product with their values make a *partial* result:
the greatest score, the sum of exponentials, the sum of values. Partials are merged in the order of
pages to that of a chunk of pages, and those of chunks in their order. Chunks begin at multiples of
:data:`CHUNK` pages of a sequence. What a token gets is thus the same bits whatever tokens stand
beside it, and whichever of its keys came in the same run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, as_expr, ceildiv, maximum, minimum
from tapeout.ir.ops.paged import TREE, PagedAttentionOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import index_operand
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import accumulator, start
from tapeout.passes.tile.places import clamped, number

CHUNK = 8
"""Pages whose partial results are merged before they meet those of others."""


@dataclass(frozen=True)
class Seen:
    """What a token sees: slots ``[first, end)``, in the pages ``[lo, hi)``; tiles ``[1, 1]``.

    Of the slots from ``end`` up to ``until`` it sees those that ``tree`` names.
    """

    first: SSAValue
    end: SSAValue
    until: SSAValue
    lo: SSAValue
    hi: SSAValue
    tree: SSAValue | None


@dataclass(frozen=True)
class Partial:
    """The greatest score and the sum of exponentials of each row; values are summed in memory."""

    top: SSAValue
    total: SSAValue


class Pages:
    """The program of an attention on pages, in the making."""

    def __init__(self, kernel: KernelOp) -> None:
        """Start it, with a buffer per argument and result."""
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, PagedAttentionOp))
        self.tokens, self.heads, self.depth = spec(self.root.q).dims
        self.pages, self.groups, _, self.lines = spec(self.root.keys).dims
        self.depth_v = spec(self.root.values).dims[3]
        self.share = self.heads // self.groups
        self.dtype = accumulator(spec(self.root.q).dtype)
        shape = ", ".join(map(str, spec(self.root.q).dims))
        self.b, self.pull = start(kernel, f"attention of [{shape}] on pages of {self.lines}")

    @property
    def all_chunks(self) -> Expr:
        """Chunks of the longest sequence that the table has room for."""
        return ceildiv(spec(self.root.table).dims[1], CHUNK)

    def few(self, most: int) -> Expr:
        """1 where chunks are tasks of their own: up to ``most`` tokens times groups; else 0."""
        pairs = maximum(self.tokens * self.groups, 1)
        return minimum(as_expr(most) // pairs, 1) * minimum(self.all_chunks - 1, 1)

    def of_chunk(self, seen: Seen, chunk: Expr) -> list[SSAValue]:
        """The first page of a chunk that a token sees, and the one after the last."""
        b = self.b
        return [
            b.map("max", seen.lo, number(b, chunk * CHUNK)),
            b.map("min", seen.hi, number(b, (chunk + 1) * CHUNK)),
        ]

    def seen_chunks(self, seen: Seen) -> list[SSAValue]:
        """The first chunk that a token sees, and the one after the last."""
        return [self.b.map("div", seen.lo, number(self.b, CHUNK)), self.up(seen.hi, CHUNK)]

    def place(self, value: SSAValue, index: list[Expr], size: Expr) -> SSAValue:
        """A number that data has, held below ``size``."""
        return clamped(self.b, self.whole_number(self.pull.at(value, index, (1, 1))), size)

    def whole_number(self, x: SSAValue) -> SSAValue:
        """As i64, in which places are counted."""
        return self.b.convert(x, i64)

    def seen(self, t: Expr) -> Seen:
        """Bounds of a token, and the pages between them that the table has."""
        b, root = self.b, self.root
        first, end = (
            self.whole_number(self.pull.at(v, [t], (1, 1))) for v in (root.first, root.end)
        )
        tree, until = None, end
        if root.tree is not None:
            tree = self.pull.at(root.tree, [t], (1, 1))
            none = b.map("eq", tree, number(b, 0))
            until = b.map("where", none, end, b.map("add", end, number(b, TREE)))
            first = b.map("min", first, end)
        first = b.map("max", first, number(b, 0))
        count = spec(root.table).dims[1]
        lo = b.map("div", first, number(b, self.lines))
        up = b.map("add", until, number(b, self.lines - 1))
        hi = b.map("div", b.map("max", up, number(b, 0)), number(b, self.lines))
        return Seen(first, end, until, lo, b.map("min", hi, number(b, count)), tree)

    def up(self, x: SSAValue, by: int) -> SSAValue:
        """``x / by``, rounded up."""
        return self.b.map("div", self.b.map("add", x, number(self.b, by - 1)), number(self.b, by))

    def table(self, sequence: SSAValue, column: Expr) -> SSAValue:
        """A page of a sequence."""
        table = self.pull.buffers[self.root.table]
        page = self.b.load(table, [index_operand(0), column], (1, 1), indices=[sequence])
        return clamped(self.b, self.whole_number(page), self.pages)

    def nothing(self, size: int) -> list[SSAValue]:
        """The partial of no keys."""
        return [self.b.full(v, (size, 1), self.dtype) for v in (-math.inf, 0)]

    def literal(self, value: float) -> SSAValue:
        """A number of the type that scores have."""
        return self.b.full(value, (1, 1), self.dtype)

    def finite(self, top: SSAValue) -> SSAValue:
        """0 where nothing is seen: a difference of infinities is no number."""
        hidden = self.b.map("eq", top, self.literal(-math.inf))
        return self.b.map("where", hidden, self.literal(0), top)

    def merged(self, one: Partial, other: Partial) -> tuple[Partial, SSAValue, SSAValue]:
        """Two partials as one, and what their sums of values are multiplied by for it."""
        b = self.b
        top = b.map("max", one.top, other.top)
        even = self.finite(top)
        keep = b.map("exp", b.map("sub", one.top, even))
        take = b.map("exp", b.map("sub", other.top, even))
        total = b.map("fma", other.total, take, b.map("mul", one.total, keep))
        return Partial(top, total), keep, take

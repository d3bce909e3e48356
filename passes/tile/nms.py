"""Non-maximum suppression: counting chooses the boxes, filling writes them down.

Each batch and class is a task. It keeps a flag per box that is still in play, and takes the best
of those until none is left or enough are taken; each one taken puts those out of play that
overlap it. The boxes lie side by side in lanes.
"""

from __future__ import annotations

import math
from collections.abc import Set

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64, u8
from tapeout.ir.expr import ONE, ZERO, Expr, as_expr
from tapeout.ir.ops.sort import NmsOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, accumulator
from tapeout.passes.tile.late import counting, filling
from tapeout.passes.tile.loops import parallel
from tapeout.passes.tile.places import clamped, number
from tapeout.passes.tile.rules.reals import Real

NOWHERE = 2**62


def lower_nms(kernel: KernelOp, machine: Machine, _: Set[int]) -> Lowered:
    """The count and the fill program of a lone suppression."""
    return _Nms(kernel, machine).build()


class _Nms:
    def __init__(self, kernel: KernelOp, machine: Machine) -> None:
        self.kernel, self.width = kernel, machine.lanes
        self.root = next(op for op in kernel.body.block.ops if isinstance(op, NmsOp))
        self.batch, self.classes, self.boxes = spec(self.root.scores).dims
        self.dtype = accumulator(spec(self.root.boxes).dtype)
        self.state = [
            ("kept", BufferSpec((self.batch, self.classes, self.boxes), i64)),
            ("taken", BufferSpec((self.batch, self.classes), i64)),
        ]

    def build(self) -> Lowered:
        title = f"choose among {self.boxes} boxes of {self.classes} classes, {self.batch} images"
        self.b, self.pull = counting(self.kernel, title, self.state)
        kept, taken, sizes = self.b.outputs
        with parallel(self.b, self.pull, {0: self.batch, 1: self.classes}) as places:
            self.choose(places[0], places[1], kept, taken)
        with parallel(self.b, self.pull, {}):
            self.b.store(self.total(taken), sizes, [ZERO])
        counter = self.b.program
        self.b, self.pull, given, target = filling(self.kernel, "list the boxes", self.state)
        with parallel(self.b, self.pull, {}):
            self.write(given[0], given[1], target[self.root.y])
        return Lowered(self.b.program, count=counter)

    # Choosing

    def along(self):
        """Vectors over the boxes."""
        return self.b.loop("n", 0, self.boxes, self.width)

    def vector(self, first: Expr) -> tuple[Expr, Bounds]:
        at = first + lane(1, self.width)
        return at, ((at, self.boxes),) if (self.boxes % self.width) != 0 else ()

    def choose(self, n: Expr, kind: Expr, kept: SSAValue, taken: SSAValue) -> None:
        b, root, shape = self.b, self.root, (1, self.width)
        playing = b.alloc([self.boxes], u8)
        least = b.convert(self.pull.at(root.score, (), (1, 1)), self.dtype)
        with self.along() as loop, self.pull.scope():
            at, bounds = self.vector(loop.iv)
            score = b.convert(
                self.pull.at(root.scores, (n, kind, at), shape, tuple(bounds)), self.dtype
            )
            b.store(b.convert(b.map("gt", score, least), u8), playing, [at], bounds)
        most = clamped(b, self.pull.at(root.max_per_class, (), (1, 1)), self.boxes + 1)
        zero = b.full(0, (1, 1), i64)
        with b.loop("k", 0, index_operand(0), ONE, [zero], indices=[most]) as loop:
            with self.pull.scope():
                best = self.best(n, kind, playing)
                found = b.map("lt", best, number(b, self.boxes))
                # A turn that finds nothing writes nothing: its place is outside of the bound.
                place = b.map("where", found, loop.carried[0], number(b, -1))
                inside = [(index_operand(0), self.boxes)]
                b.store(best, kept, [n, kind, index_operand(0)], inside, [place])
                self.suppress(n, clamped(b, best, self.boxes), found, playing)
                loop.next = [b.map("add", loop.carried[0], b.convert(found, i64))]
        b.store(loop.results[0], taken, [n, kind])

    def best(self, n: Expr, kind: Expr, playing: SSAValue) -> SSAValue:
        """The first of the highest scores in play; past all boxes when none is."""
        b, shape = self.b, (1, self.width)
        start = [b.full(-math.inf, shape, self.dtype), b.full(NOWHERE, shape, i64)]
        with b.loop("n", 0, self.boxes, self.width, start) as loop, self.pull.scope():
            at, bounds = self.vector(loop.iv)
            score = self.pull.at(self.root.scores, (n, kind, at), shape, tuple(bounds))
            score = b.convert(score, self.dtype)
            flag = b.load(playing, [at], shape, bounds)
            live = b.map("ne", flag, b.full(0, (1, 1), u8))
            wins = b.map("and", live, b.map("gt", score, loop.carried[0]))
            here = number(b, at, shape)
            loop.next = [
                b.map("where", wins, score, loop.carried[0]),
                b.map("where", wins, here, loop.carried[1]),
            ]
        value, where = loop.results
        top = b.reduce("max", value, 1)
        level = b.map("where", b.map("eq", value, top), where, b.full(NOWHERE, (1, 1), i64))
        return b.reduce("min", level, 1)

    def suppress(self, n: Expr, best: SSAValue, found: SSAValue, playing: SSAValue) -> None:
        """Put the chosen box, and all that overlap it too much, out of play."""
        b, shape = self.b, (1, self.width)
        chosen = self.corners(n, index_operand(0), (1, 1), (), [best])
        limit = b.convert(self.pull.at(self.root.iou, (), (1, 1)), self.dtype)
        with self.along() as loop, self.pull.scope():
            at, bounds = self.vector(loop.iv)
            other = self.corners(n, at, shape, bounds, [])
            over = self.overlap(chosen, other).compare("gt", Real(b, limit))
            gone = b.map("or", over, b.map("eq", number(b, at, shape), best))
            gone = b.map("and", gone, found)
            old = b.load(playing, [at], shape, bounds)
            b.store(b.map("where", gone, b.full(0, (1, 1), u8), old), playing, [at], bounds)

    def corners(
        self, n: Expr, at: Expr, shape: tuple[int, int], bounds: Bounds, indices: list[SSAValue]
    ) -> list[Real]:
        """Low y, low x, high y, high x of boxes."""
        b, buffer = self.b, self.pull.buffers[self.root.boxes]

        def number_of(k: int) -> Real:
            tile = b.load(buffer, [n, at, as_expr(k)], shape, bounds, indices=indices)
            return Real(b, b.convert(tile, self.dtype))

        p, q, r, s = (number_of(k) for k in range(4))
        if self.root.center_point_box.data:
            x, y, width, height = p, q, r / 2.0, s / 2.0
            return [y - height, x - width, y + height, x + width]
        return [p.min(r), q.min(s), p.max(r), q.max(s)]

    def overlap(self, a: list[Real], c: list[Real]) -> Real:
        """Area of the intersection over area of the union; 0 where there is no area."""
        tall = a[2].min(c[2]) - a[0].max(c[0])
        wide = a[3].min(c[3]) - a[1].max(c[1])
        shared = tall * wide
        union = (a[2] - a[0]) * (a[3] - a[1]) + (c[2] - c[0]) * (c[3] - c[1]) - shared
        share = (shared / union).where(union.compare("gt", 0.0), 0.0)
        meets = self.b.map("and", tall.compare("gt", 0.0), wide.compare("gt", 0.0))
        return share.where(meets, 0.0)

    # Counting and listing

    def total(self, taken: SSAValue) -> SSAValue:
        b, zero = self.b, self.b.full(0, (1, 1), i64)
        with b.loop("n", 0, self.batch, ONE, [zero]) as n:
            with b.loop("c", 0, self.classes, ONE, n.carried) as c:
                more = b.load(taken, [n.iv, c.iv], (1, 1))
                c.next = [b.map("add", c.carried[0], more)]
            n.next = c.results
        return n.results[0]

    def write(self, kept: SSAValue, taken: SSAValue, y: SSAValue) -> None:
        b, zero = self.b, self.b.full(0, (1, 1), i64)
        with b.loop("n", 0, self.batch, ONE, [zero]) as n:
            with b.loop("c", 0, self.classes, ONE, n.carried) as c:
                many = clamped(b, b.load(taken, [n.iv, c.iv], (1, 1)), self.boxes + 1)
                hi = index_operand(0)
                with b.loop("k", 0, hi, ONE, c.carried, indices=[many]) as k:
                    row = k.carried[0]
                    place = [(index_operand(0), self.root.count.data[0])]
                    inside = [(k.iv, self.boxes)]
                    box = b.load(kept, [n.iv, c.iv, k.iv], (1, 1), inside)
                    for column, tile in enumerate((number(b, n.iv), number(b, c.iv), box)):
                        b.store(tile, y, [index_operand(0), as_expr(column)], place, [row])
                    k.next = [b.map("add", row, number(b, 1))]
                c.next = k.results
            n.next = c.results

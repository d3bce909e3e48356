"""Products with packed weights of few bits: integer sums of a group, then one scaling.

Weights are packed as ``[panels of 16 columns][groups][blocks][vectors][16][4]`` bytes, the same on
every machine. A *step* is four neighbours along ``k`` of 16 columns, what one dot takes. Codes are
cut into *planes* of 8, 4, 2 or 1 bits (3 bits are 2 and 1), a byte holds one plane of as many
steps as fit, and a *block* is the fewest steps that fill whole vectors of every plane: 2 steps of
4 bits are 1 vector, 8 steps of 3 bits are 2 vectors of 2 bits and 1 of 1 bit. Unpacking is a shift
and a mask. Scales and zero points lie beside as ``[panels][groups][16]``.

Loops, outside in: chunks of rows and panels of columns (both parallel), blocks of rows, groups,
steps. Sums of a group are i32 and start at ``-zero * sums``; what they add to is f32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import f32, i32
from tapeout.ir.expr import ZERO, Expr, as_expr, is_less, minimum
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane, tile_of
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack, buffer_spec
from tapeout.passes.tile.product import CHUNK, row_blocks, rows_joined
from tapeout.passes.tile.pull import NotPullable, Pull

Array = np.ndarray[Any, Any]

PANEL = 16
"""Columns whose codes lie together."""
STEP = 4
"""Neighbours along k that one dot takes."""
MOST_PANELS = 4
"""Panels that one task may take at once: columns are filled up to as many."""
AHEAD_BYTES = 512
"""How far before its use a vector of codes is asked for: hardware does not look past a page."""
UNROLLED = 8
"""Steps that stand in the body of one loop."""


@dataclass(frozen=True)
class Plane:
    """``bits`` of every code from bit ``at`` on."""

    bits: int
    at: int

    @property
    def steps(self) -> int:
        """Steps that one byte holds."""
        return 8 // self.bits


@dataclass(frozen=True)
class Layout:
    """How codes of ``bits`` in groups of ``group`` are packed."""

    bits: int
    group: int

    @property
    def planes(self) -> list[Plane]:
        """The planes, those of the lower bits first."""
        found: list[Plane] = []
        at = 0
        for bits in (8, 4, 2, 1):
            if self.bits & bits:
                found.append(Plane(bits, at))
                at += bits
        return found

    @property
    def steps(self) -> int:
        """Steps of a group."""
        return self.group // STEP

    @property
    def block(self) -> int:
        """Steps of a block."""
        return max(p.steps for p in self.planes)

    @property
    def blocks(self) -> int:
        """Blocks of a group; the last may have fewer steps."""
        return -(-self.steps // self.block)

    @property
    def vectors(self) -> int:
        """Vectors of 16 columns and 4 bytes in a block."""
        return sum(self.block // p.steps for p in self.planes)

    def fields(self, step: int) -> Iterator[tuple[int, int, Plane]]:
        """Where the planes of a step of a block lie: vector, lowest bit, plane."""
        first = 0
        for plane in self.planes:
            vector, place = divmod(step, plane.steps)
            yield first + vector, place * plane.bits, plane
            first += self.block // plane.steps


@dataclass(frozen=True)
class PackCodes:
    """``[N, K]`` to ``[panels, groups, blocks, vectors, 16, 4]``; codes of 0 fill it up."""

    layout: Layout

    def __call__(self, array: Array) -> Array:
        """Pack one matrix of codes."""
        lay, (n, k) = self.layout, array.shape
        panels, groups = panels_of(n), k // lay.group
        padded = np.zeros((panels * PANEL, groups, lay.blocks * lay.block * STEP), np.uint8)
        padded[:n, :, : lay.group] = array.reshape(n, groups, lay.group)
        cut = padded.reshape(panels, PANEL, groups, lay.blocks, lay.block, STEP)
        steps = cut.transpose(4, 0, 2, 3, 1, 5)  # [step of a block, panels, groups, blocks, 16, 4]
        packed = np.zeros((panels, groups, lay.blocks, lay.vectors, PANEL, STEP), np.uint8)
        for step in range(lay.block):
            for vector, low, plane in lay.fields(step):
                field = steps[step] >> plane.at & (1 << plane.bits) - 1
                packed[:, :, :, vector] |= field << low
        return packed


@dataclass(frozen=True)
class PackScales:
    """``[N, G]`` to ``[panels, G, width]``; zeros fill the last panels."""

    width: int = PANEL

    def __call__(self, array: Array) -> Array:
        """Pack scales or zero points."""
        n, count = array.shape
        padded = np.zeros((panels_of(n, self.width) * self.width, count), array.dtype)
        padded[:n] = array
        return np.ascontiguousarray(padded.reshape(-1, self.width, count).transpose(0, 2, 1))


def panels_of(n: int, width: int = PANEL) -> int:
    """Panels of ``width`` columns that hold ``n``, as many as whole tasks take."""
    most = PANEL * MOST_PANELS
    return -(-n // most) * most // width


def lower_grouped(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a grouped product with its epilogue."""
    kernel = with_joined_rows(kernel, constants)
    return Grouped(kernel, machine, root_of(kernel)).build()


def with_joined_rows(kernel: KernelOp, constants: Set[int]) -> KernelOp:
    """The kernel with its rows as one axis; NotPullable where the weights are no constants."""
    root = root_of(kernel)
    weights = {v for v in (root.codes, root.scale, root.zero) if v is not None}
    if not all(isinstance(v, BlockArgument) and v.index in constants for v in weights):
        raise NotPullable("codes and scales are packed when compiling")
    kernel = rows_joined(kernel, root.y, weights)
    if spec(root_of(kernel).y).rank != 2:
        raise NotPullable("the rows of a grouped product are one axis")
    return kernel


def root_of(kernel: KernelOp) -> GroupedMatmulOp:
    """The product that a kernel is built around."""
    return next(op for op in kernel.body.block.ops if isinstance(op, GroupedMatmulOp))


Root = TypeVar("Root", GroupedMatmulOp, ExpertGroupedMatmulOp)


class Grouped(Generic[Root]):
    """Builds the program of a product whose rows are one axis; sums of groups are dots."""

    width = PANEL
    """Columns of a panel."""

    def __init__(self, kernel: KernelOp, machine: Machine, root: Root) -> None:
        """Choose how many rows and panels one tile of sums has."""
        self.kernel, self.machine, self.root = kernel, machine, root
        self.m, self.n = spec(self.root.y).dims
        self.layout = Layout(self.root.bits.data, self.root.group.data)
        self.groups = spec(self.root.codes).dims[-1] // self.root.group.data
        # Half of the accumulators are integers, the other half floats.
        room = machine.tile_m * machine.tile_n // machine.lanes // 2
        vectors = max(1, PANEL // machine.lanes)
        most = MOST_PANELS if is_less(self.m, 2) else 2
        self.panels = next(p for p in (4, 2, 1) if p == 1 or (p <= most and p * vectors <= room))
        self.rows = max(1, room // (self.panels * vectors))

    def build(self) -> Lowered:
        """The program, and how its weights are packed."""
        arguments = self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs: dict[int, Pack] = {}
        for value, pack, dims in self.packed():
            assert isinstance(value, BlockArgument), "only operands are packed"
            dims = (self.all_panels(), *dims)
            inputs[value.index] = (f"x{value.index}", BufferSpec(dims, spec(value).dtype))
            packs[value.index] = pack
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        self.b = TileBuilder(self.kernel.sym_name.data, self.title(), inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.loops()
        return Lowered(self.b.program, packs)

    def all_panels(self) -> Expr:
        """Panels of all weights."""
        return as_expr(panels_of(int(self.n), self.width))

    def packed(self) -> Iterator[tuple[SSAValue, Pack, tuple[Expr, ...]]]:
        """Operands that are packed: how, and their dimensions behind the panels."""
        lay, root = self.layout, self.root
        inner = map(as_expr, (lay.blocks, lay.vectors, PANEL, STEP))
        yield root.codes, PackCodes(lay), (self.groups, *inner)
        yield from self.packed_scales()

    def packed_scales(self) -> Iterator[tuple[SSAValue, Pack, tuple[Expr, ...]]]:
        """Those of the operands that are scales or zero points."""
        for value in (self.root.scale, self.root.zero):
            if value is not None:
                yield value, PackScales(self.width), (spec(value).dims[-1], as_expr(self.width))

    def title(self) -> str:
        """What the kernel computes."""
        k, lay = spec(self.root.a).dims[-1], self.layout
        weights = f"[{k}, {self.n}] of {lay.bits} bits in groups of {lay.group}"
        return f"product [{self.m}, {k}] x {weights}"

    def loops(self) -> None:
        """All rows and columns."""
        chunk, width = CHUNK * self.rows, self.panels * self.width
        if is_less(self.m, chunk + 1):
            with self.b.parallel("j", self.n, width) as loop, self.pull.scope():
                self.columns(loop.iv, ZERO, self.m)
            return
        with self.b.parallel("c", self.m, chunk) as rows:
            with self.b.parallel("j", self.n, width) as loop, self.pull.scope():
                self.columns(loop.iv, rows.iv, minimum(rows.iv + chunk, self.m))

    def columns(self, j: Expr, first: Expr, end: Expr) -> None:
        """Rows from ``first`` to ``end`` of some panels."""
        for lo, hi, size in row_blocks(end - first, self.rows):
            if lo == hi:
                continue
            with self.b.loop("i", lo, hi, size) as loop, self.pull.scope():
                row = first + loop.iv + lane(0, size)
                for q, total in enumerate(self.sum(row, j, size)):
                    self.finish(row, j + q * self.width + lane(1, self.width), size, total)

    def sum(self, row: Expr, j: Expr, size: int) -> list[SSAValue]:
        """The product of some rows with each of the panels from column ``j`` on."""
        start = [self.b.full(0, (size, self.width), f32) for _ in range(self.panels)]
        with self.b.loop("g", 0, self.groups, 1, start) as loop, self.pull.scope():
            places = [j // self.width + q for q in range(self.panels)]
            sums = self.group(loop.iv, row, size, places)
            left = self.at_group(self.root.a_scale, [row], loop.iv, (size, 1))
            loop.next = [
                self.scaled(total, left, place, loop.iv, before)
                for total, place, before in zip(sums, places, loop.carried, strict=True)
            ]
        return loop.results

    def scaled(
        self, total: SSAValue, left: SSAValue, place: Expr, g: Expr, before: SSAValue
    ) -> SSAValue:
        """Add the sum of a group, as the number that it stands for."""
        scale = self.at_columns(self.root.scale, place, g)
        if spec(self.root.scale).dims[-1] != 1:
            self.b.prefetch(self.pull.buffers[self.root.scale], [place, g, ZERO], AHEAD_BYTES)
        scale = self.b.map("mul", left, self.b.convert(scale, f32))
        return self.b.map("fma", self.b.convert(total, f32), scale, before)

    def at_group(
        self, value: SSAValue, place: list[Expr], g: Expr, shape: tuple[int, int], *last: Expr
    ) -> SSAValue:
        """Scales, sums or zero points of a group; some are those of all groups."""
        g = ZERO if spec(value).dims[-1] == 1 else g
        return self.b.load(self.pull.buffers[value], [*place, g, *last], shape)

    def at_columns(self, value: SSAValue, place: Expr, g: Expr) -> SSAValue:
        """Scales or zero points of a group, for the columns of a panel."""
        return self.at_group(value, [place], g, (1, self.width), lane(1, self.width))

    def group(self, g: Expr, row: Expr, size: int, places: Sequence[Expr]) -> list[SSAValue]:
        """The integer sums of one group, for each panel."""
        totals = [self.start(g, row, size, place) for place in places]
        lay, at_once = self.layout, max(1, UNROLLED // self.layout.block)
        whole = lay.steps // lay.block // at_once * at_once
        if whole > at_once:
            with self.b.loop("s", 0, whole, at_once, totals) as loop, self.pull.scope():
                carried = loop.carried
                for d in range(at_once):
                    carried = self.block((g, loop.iv + d), lay.block, row, places, carried)
                loop.next = carried
            totals = loop.results
        else:
            whole = 0
        for at in range(whole, lay.blocks):
            steps = min(lay.block, lay.steps - at * lay.block)
            totals = self.block((g, as_expr(at)), steps, row, places, totals)
        return totals

    def start(self, g: Expr, row: Expr, size: int, place: Expr) -> SSAValue:
        """What the sum of a group begins with: ``-zero * sums``."""
        sums = self.at_group(self.root.sums, [row], g, (size, 1))
        if self.root.zero is None:
            zero = self.b.full(-self.root.point.data, (1, 1), i32)
        else:
            zero = self.at_columns(self.root.zero, place, g)
            zero = self.b.map("neg", self.b.convert(zero, i32))
        return self.b.broadcast(self.b.map("mul", zero, sums), (size, self.width))

    def block(
        self,
        at: tuple[Expr, Expr],
        steps: int,
        row: Expr,
        places: Sequence[Expr],
        totals: Sequence[SSAValue],
    ) -> list[SSAValue]:
        """Add the steps of one block, which is ``at`` a group and a number in it."""
        lay, (g, block) = self.layout, at
        codes = self.pull.buffers[self.root.codes]
        sizes = range(lay.vectors)
        inner = (lane(1, PANEL), lane(0, STEP))
        vectors = [
            [self.b.load(codes, [p, g, block, v, *inner], (STEP, PANEL)) for v in sizes]
            for p in places
        ]
        for p in places:
            for v in sizes:
                self.b.prefetch(codes, [p, g, block, v, ZERO, ZERO], AHEAD_BYTES)
        found = list(totals)
        size = tile_of(found[0]).shape[0]
        for step in range(steps):
            k = g * lay.group + (block * lay.block + step) * STEP + lane(1, STEP)
            a = self.b.load(self.pull.buffers[self.root.a], [row, k], (size, STEP))
            for q, packed in enumerate(vectors):
                found[q] = self.b.dot(a, self.codes(packed, step), found[q])
        return found

    def codes(self, packed: Sequence[SSAValue], step: int) -> SSAValue:
        """The codes of one step, times ``step`` of the operator, as bytes."""
        up = self.root.step.data.bit_length() - 1
        tile: SSAValue | None = None
        for vector, low, plane in self.layout.fields(step):
            field = packed[vector]
            if plane.bits < 8:
                field = self.b.field(field, low, plane.bits, plane.at + up)
            tile = field if tile is None else self.b.map("or", tile, field)
        assert tile is not None, "there is a plane"
        return tile

    def finish(self, row: Expr, column: Expr, size: int, total: SSAValue) -> None:
        """Epilogue and stores of the rows of one panel."""
        width = self.panels * self.width
        bounds: Bounds = ((column, self.n),) if (self.n % width) != 0 else ()
        with self.pull.scope():
            self.pull.made[self.root.y] = lambda i, s, b: total
            for value, buffer in zip(self.kernel.returned, self.b.outputs, strict=True):
                tile = self.pull.at(value, [row, column], (size, self.width), tuple(bounds))
                tile = self.b.broadcast(tile, (size, self.width))
                self.b.store(tile, buffer, [row, column], bounds)

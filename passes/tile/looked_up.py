"""Products with packed weights of few bits whose sums of groups are looked up, not multiplied.

A first stage lays out tables: for every four neighbours along ``k`` of a row of activations, what
each choice among them adds up to. ``tile.look_up`` then takes one bit of four codes as a choice.
Everything else is as in ``grouped.py``: the sums are exact, and the same.

Codes are packed as ``[panels of 64 columns][groups][blocks][bits][pairs of steps][64]`` bytes: one
bit of a step (four codes) is half a byte. A *block* is as many steps as sum up in 16 bits. Scales
and zero points lie beside as ``[panels][groups][64]``. Entries of tables are never negative: sums
of four signed bytes and ``BIAS``, which is taken off the start of each group again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i32, u8
from tapeout.ir.expr import ONE, ZERO, Expr, as_expr, is_less, minimum
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.ops import MOST_LOOKED_UP, lane
from tapeout.ir.types import spec
from tapeout.passes.tile.grouped import STEP, Grouped, panels_of, root_of, with_joined_rows
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack
from tapeout.passes.tile.pull import NotPullable

Array = np.ndarray[Any, Any]

COLUMNS = 64
"""Columns whose codes lie together: a cache line."""
ENTRIES = 1 << STEP
HALF_BITS = 5
"""Bits of an entry in each of its two bytes."""
BIAS = 128 * STEP
MOST_ROWS = 4
"""With more rows, dots unpack a code once for many products."""
CHUNK = 16
"""Blocks of tables that one task makes."""
LINE_BYTES = 64
AHEAD_BYTES = 2048
"""How far before their use codes and scales are asked for; measured: 2 % faster than 1024."""


@dataclass(frozen=True)
class LookUpLayout:
    """How codes of ``bits`` in groups of ``group`` are packed."""

    bits: int
    group: int

    @property
    def blocks(self) -> int:
        """Blocks of a group."""
        steps = -(-self.group // STEP)
        most = max(8, MOST_LOOKED_UP // ((1 << min(self.bits, 3)) - 1) // 8 * 8)
        return -(-steps // most)

    @property
    def steps(self) -> int:
        """Steps of a block: an even number; the last of a group may be of no codes."""
        return -(-self.group // (STEP * self.blocks * 2)) * 2

    @property
    def bias(self) -> int:
        """What the looked-up entries of a group are too large by."""
        return BIAS * self.blocks * self.steps * ((1 << self.bits) - 1)


@dataclass(frozen=True)
class PackBits:
    """``[N, K]`` to ``[panels, groups, blocks, bits, steps / 2, 64]``; codes of 0 fill it up."""

    layout: LookUpLayout

    def __call__(self, array: Array) -> Array:
        """Pack one matrix of codes."""
        lay, (n, k) = self.layout, array.shape
        panels, groups = panels_of(n, COLUMNS), k // lay.group
        padded = np.zeros((panels * COLUMNS, groups, lay.blocks * lay.steps * STEP), np.uint8)
        padded[:n, :, : lay.group] = array.reshape(n, groups, lay.group)
        cut = padded.reshape(panels, COLUMNS, groups, lay.blocks, lay.steps // 2, 2 * STEP)
        planes = [np.packbits(cut >> bit & 1, -1, "little")[..., 0] for bit in range(lay.bits)]
        return np.ascontiguousarray(np.stack(planes, 3).transpose(0, 2, 4, 3, 5, 1))


def lower_looked_up(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a grouped product with its epilogue, where the machine gains by it."""
    kernel = with_joined_rows(kernel, constants)
    return _LookedUp(kernel, machine, root_of(kernel)).build()


class _LookedUp(Grouped[GroupedMatmulOp]):
    width = COLUMNS

    def __init__(self, kernel: KernelOp, machine: Machine, root: GroupedMatmulOp) -> None:
        super().__init__(kernel, machine, root)
        if not is_less(self.m, MOST_ROWS + 1) or self.root.bits.data > machine.looked_up_bits:
            raise NotPullable("dots are faster than look-ups")
        self.panels, self.rows = 1, MOST_ROWS
        self.bit_layout = LookUpLayout(self.root.bits.data, self.root.group.data)

    def packed(self) -> Iterator[tuple[SSAValue, Pack, tuple[Expr, ...]]]:
        lay = self.bit_layout
        inner = map(as_expr, (lay.blocks, lay.bits, lay.steps // 2, COLUMNS))
        yield self.root.codes, PackBits(lay), (self.groups, *inner)
        yield from self.packed_scales()

    def title(self) -> str:
        return f"{super().title()}, looked up"

    def loops(self) -> None:
        lay = self.bit_layout
        dims = (self.m, self.groups, lay.blocks, lay.steps, 2, ENTRIES)
        self.tables = self.b.alloc(dims, u8, "shared")
        self.lay_out()
        super().loops()

    def lay_out(self) -> None:
        """The tables of all rows."""
        b, count = self.b, self.groups * self.bit_layout.blocks
        with b.parallel("t", count, CHUNK) as tasks, self.pull.scope():
            chosen = self.choices()
            end = minimum(tasks.iv + CHUNK, count)
            with b.loop("r", 0, self.m) as row, b.loop("n", tasks.iv, end) as block:
                with b.loop("s", 0, self.bit_layout.steps, 2) as steps, self.pull.scope():
                    self.table(row.iv, block.iv, steps.iv, chosen)

    def choices(self) -> SSAValue:
        """``[4, 16]`` bytes as the right side of a dot: bit ``j`` of ``e`` at ``[j, e]``."""
        b, size = self.b, ENTRIES * STEP
        entry, j = lane(1, size) // STEP, lane(1, size) % STEP
        bits = (ONE - minimum((j + STEP - i) % STEP, 1) for i in range(STEP))
        value = sum((bit * (entry // (1 << i) % 2) for i, bit in enumerate(bits)), ZERO)
        scratch = b.alloc([size], u8)
        b.store(b.convert(b.index(value, (1, size)), u8), scratch, [lane(1, size)])
        found = b.load(scratch, [lane(1, ENTRIES) * STEP + lane(0, STEP)], (STEP, ENTRIES))
        return b.field(found, 0, 1)

    def table(self, row: Expr, block: Expr, s: Expr, chosen: SSAValue) -> None:
        """The tables of two steps: dots of activations with 0 and 1, cut in halves."""
        b, lay = self.b, self.bit_layout
        g, part = block // lay.blocks, block % lay.blocks
        k = (part * lay.steps + s + lane(0, 2)) * STEP + lane(1, STEP)
        whole = lay.blocks * lay.steps * STEP == lay.group
        bounds = () if whole else ((k, as_expr(lay.group)),)
        a = b.load(self.pull.buffers[self.root.a], [row, g * lay.group + k], (2, STEP), bounds)
        entries = b.dot(a, chosen, b.full(BIAS, (2, ENTRIES), i32))
        lower = b.map("and", entries, b.full((1 << HALF_BITS) - 1, (1, 1), i32))
        upper = b.map("shift_right", entries, b.full(HALF_BITS, (1, 1), i32))
        for half, tile in enumerate((lower, upper)):
            at = [row, g, part, s + lane(0, 2), half, lane(1, ENTRIES)]
            b.store(b.convert(tile, u8), self.tables, at)

    def group(self, g: Expr, row: Expr, size: int, places: Sequence[Expr]) -> list[SSAValue]:
        lay, up = self.bit_layout, self.root.step.data.bit_length() - 1
        bias = self.b.full(lay.bias << up, (1, 1), i32)
        codes = self.pull.buffers[self.root.codes]
        self.ask_for_scales(places[0], g)
        total = self.b.map("sub", self.start(g, row, size, places[0]), bias)
        with self.b.loop("n", 0, lay.blocks, 1, [total]) as loop, self.pull.scope():
            tables, at = [row, g, loop.iv], [places[0], g, loop.iv]
            total = loop.carried[0]
            loop.next = [self.b.look_up(self.tables, tables, codes, at, total, up, AHEAD_BYTES)]
        return loop.results

    def ask_for_scales(self, place: Expr, g: Expr) -> None:
        """Hints at scales and zero points that groups have for themselves."""
        for value in (self.root.scale, self.root.zero):
            if value is None or spec(value).dims[1] == 1:
                continue
            for column in range(0, COLUMNS, LINE_BYTES // spec(value).dtype.bytes):
                at = [place, g, as_expr(column)]
                self.b.prefetch(self.pull.buffers[value], at, AHEAD_BYTES)

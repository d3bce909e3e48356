"""What strategies of blocks know of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import is_byte
from tapeout.passes.tile.blocks.axes import power_of_two


@dataclass(frozen=True)
class BlockMachine:
    """Sizes of tiles, all of them powers of two.

    ``elements`` are those of a tile of pointwise work, and of a matrix that few rows multiply. A
    reduced row of up to ``row`` elements is held whole. A product makes tiles of ``tile_m`` x
    ``tile_n`` from steps of ``tile_k``, none of which may be below ``least_dot``. As many
    ``programs`` keep a device busy.
    """

    elements: int = 1024
    row: int = 8192
    tile_m: int = 64
    tile_n: int = 64
    tile_k: int = 32
    least_dot: int = 16
    programs: int = 256

    def step(self, size: Expr, dtype: DType) -> int:
        """Elements of a summed axis of ``size`` that a dot of ``dtype`` takes at once."""
        least = 2 * self.least_dot if is_byte(dtype) else self.least_dot
        return power_of_two(size, max(self.tile_k, least), least)

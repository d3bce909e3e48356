"""Narrow floats as f32 in scratch: widened once, and not each time that they are multiplied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, buffer_of, lane
from tapeout.passes.tile.kernel_io import sweep
from tapeout.passes.tile.pull import Pull

Rows = Callable[[Expr, tuple[int, int], Bounds], SSAValue]
"""A tile of some rows from a place along them on: the place with its lanes, shape, and bounds."""


def widen_rows(
    b: TileBuilder, pull: Pull, scratch: SSAValue, size: int, lanes: int, rows: Rows
) -> None:
    """Fill ``scratch [at least size, K]`` with ``size`` rows in its type, vector by vector."""
    spec = buffer_of(scratch)

    def copy(first: Expr, width: int, bounds: Bounds, _: list[SSAValue]) -> Sequence[SSAValue]:
        at = first + lane(1, width)
        tile = b.convert(rows(at, (size, width), bounds), spec.dtype)
        b.store(tile, scratch, [lane(0, size), at], bounds)
        return []

    sweep(b, pull, "k", 0, spec.dims[-1], [lanes], [[]], copy)

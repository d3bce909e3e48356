"""Several axes walked as one: a block of lanes runs along all of them, in row-major order."""

from __future__ import annotations

from collections.abc import Sequence

from tapeout.ir.expr import ZERO, Expr, is_less
from tapeout.passes.tile.places import Pairs


def unraveled(flat: Expr, dims: Sequence[Expr]) -> list[Expr]:
    """The index along each axis of the element at the place ``flat`` of the axes as one."""
    index: list[Expr] = []
    wide = [axis for axis, size in enumerate(dims) if size != 1]
    for axis in reversed(range(len(dims))):
        if axis not in wide:
            index.append(ZERO)
        elif axis == wide[0]:
            index.append(flat)
        else:
            index.append(flat % dims[axis])
            flat = flat // dims[axis]
    return index[::-1]


def power_of_two(size: Expr, most: int, least: int = 1) -> int:
    """The least power of two that holds ``size`` elements, from ``least`` to ``most``."""
    found = least
    while found < most and not is_less(size, found + 1):
        found *= 2
    return found


def cut(place: Expr, size: Expr, width: int) -> Pairs:
    """The bound that keeps blocks of ``width`` lanes within ``size``, where one can leave it."""
    return () if size % width == 0 or is_less(place, size) else ((place, size),)

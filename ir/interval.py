"""Ranges of integers, and what arithmetic makes of them: the bounds of expressions."""

from collections.abc import Sequence
from typing import TypeAlias

# Lowest and highest value, both included; None where there is no limit.
Range: TypeAlias = tuple[int | None, int | None]


def is_at_least_zero(limits: Range) -> bool:
    """Whether no value is negative."""
    return limits[0] is not None and limits[0] >= 0


# Stands for "no bound" inside products of ranges; no size comes near it.
_UNBOUNDED = 1 << 1024


def times(a: Range, b: Range) -> Range:
    """The product of two ranges."""
    if a[0] is not None and b[0] is not None and a[0] == a[1] and b[0] == b[1]:
        return a[0] * b[0], a[0] * b[0]
    left = (-_UNBOUNDED if a[0] is None else a[0], _UNBOUNDED if a[1] is None else a[1])
    right = (-_UNBOUNDED if b[0] is None else b[0], _UNBOUNDED if b[1] is None else b[1])
    corners = [x * y for x in left for y in right]
    low, high = min(corners), max(corners)
    return None if low <= -_UNBOUNDED else low, None if high >= _UNBOUNDED else high


def extreme(least: bool, limits: Sequence[Range]) -> Range:
    """The range of the least (or greatest) of several values."""
    lows = [lo for lo, _ in limits if lo is not None]
    highs = [hi for _, hi in limits if hi is not None]
    if least:
        return min(lows) if len(lows) == len(limits) else None, min(highs, default=None)
    return max(lows, default=None), max(highs) if len(highs) == len(limits) else None


def remainder(a: Range, b: Range) -> Range:
    """The range of ``a % b``; known only for a positive ``b``."""
    if b[0] is None or b[0] <= 0:
        return None, None
    highs = [b[1] - 1] if b[1] is not None else []
    if is_at_least_zero(a) and a[1] is not None:
        highs.append(a[1])
    return 0, min(highs, default=None)


def quotient(a: Range, b: Range) -> Range:
    """The range of ``a // b``; known only for a positive ``b``."""
    (alo, ahi), (blo, bhi) = a, b
    if blo is None or blo <= 0:
        return None, None
    low = None if alo is None else (alo // blo if alo < 0 else (0 if bhi is None else alo // bhi))
    high = None if ahi is None else (ahi // blo if ahi >= 0 else -1)
    return low, high

"""The emulated device's memory: allocations, and which of their bytes hold a value.

A *value* is what one step wrote: a kernel to a buffer, a copy to its target. Buffers that do not
live together share memory, so writing one may leave a part of another, which is then no value any
more. A kernel that reads such a part, or bytes that nobody has written, was given the wrong memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError

Bytes = npt.NDArray[np.uint8]

SPAN = 40
"""Each allocation owns ``2**SPAN`` addresses, and no other ever has them again."""

UNWRITTEN = 0xFF
"""What new memory is filled with: NaN as a float, -1 as an integer."""


@dataclass(frozen=True, eq=False)
class Value:
    """Bytes from ``start`` to ``stop``; ``parts``: a reader may take some of them."""

    start: int
    stop: int
    parts: bool = False


@dataclass(frozen=True)
class Piece:
    """Bytes that ``value`` was the last to be written to."""

    start: int
    stop: int
    value: Value


@dataclass
class Allocation:
    """Memory at ``base``, and the pieces of values in it, in order and apart."""

    base: int
    data: Bytes
    pieces: list[Piece] = field(default_factory=list[Piece])

    def write(self, start: int, stop: int, *, update: bool = False, parts: bool = False) -> None:
        """Have a value at these bytes. An ``update`` of a part of a value leaves it whole."""
        made = Piece(start, stop, Value(start, stop, parts))
        kept = [part for piece in self.pieces for part in _left(piece, start, stop, update)]
        self.pieces = sorted([*kept, made], key=lambda piece: piece.start)

    def holds(self, start: int, stop: int, *, part: bool = False) -> bool:
        """Whether the bytes are values: whole ones, unless they may be read in ``part``."""
        at = start
        for piece in self.pieces:
            if piece.stop <= at or stop <= piece.start:
                continue
            value = piece.value
            whole = start <= value.start and value.stop <= stop
            if piece.start > at or not (whole or part or value.parts):
                return False
            at = piece.stop
        return at >= stop


def _left(piece: Piece, start: int, stop: int, update: bool) -> Iterator[Piece]:
    """What is left of a piece when bytes are written: nothing of a value that loses a part."""
    value = piece.value
    apart = value.stop <= start or stop <= value.start
    inside = value.start <= start and stop <= value.stop
    if apart:
        yield piece
    elif update and inside:
        ends = (piece.start, min(piece.stop, start)), (max(piece.start, stop), piece.stop)
        yield from (Piece(low, high, value) for low, high in ends if low < high)


class DeviceMemory:
    """All allocations; ``limit`` bytes together, or as many as the machine has."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        self.allocations: dict[int, Allocation] = {}
        self._count = 0

    def allocate(self, size: int) -> int | None:
        """The address of new memory; None where the limit is passed."""
        if self.limit is not None and self.used + size > self.limit:
            return None
        self._count += 1
        self.used += size
        base = self._count << SPAN
        self.allocations[base] = Allocation(base, np.full(size, UNWRITTEN, np.uint8))
        return base

    def free(self, address: int) -> None:
        """Give memory back. Errors: E0908 for an address that no allocation begins at."""
        if address not in self.allocations:
            raise self._refusal("memory is freed that is not there", address, 0, "free")
        self.used -= self.allocations.pop(address).data.size

    def find(self, address: int, size: int, where: str) -> tuple[Allocation, int]:
        """The allocation of ``size`` bytes at ``address``, and their offset. Errors: E0908."""
        found = self.allocations.get(address >> SPAN << SPAN)
        offset = address & ((1 << SPAN) - 1)
        if found is None:
            freed = 0 < address >> SPAN <= self._count
            what = "memory is used that was freed" if freed else "no memory has this address"
            raise self._refusal(what, address, size, where)
        if offset + size > found.data.size:
            raise self._refusal("memory is used beyond its end", address, size, where)
        return found, offset

    def read(self, address: int, size: int, where: str, *, part: bool = False) -> Bytes:
        """Bytes that hold a value. Errors: E0908."""
        found, offset = self.find(address, size, where)
        if not found.holds(offset, offset + size, part=part):
            what = "memory is read that holds nothing, or a rest of something else"
            raise self._refusal(what, address, size, where)
        return found.data[offset : offset + size]

    def write(self, address: int, data: Bytes, where: str, *, parts: bool = False) -> None:
        """Copy ``data`` to where it becomes a value. Errors: E0908."""
        found, offset = self.find(address, data.size, where)
        found.data[offset : offset + data.size] = data
        found.write(offset, offset + data.size, update=True, parts=parts)

    def _refusal(self, what: str, address: int, size: int, where: str) -> CompileError:
        number, offset = address >> SPAN, address & ((1 << SPAN) - 1)
        facts: Sequence[tuple[str, Any]] = [
            ("step", where),
            ("address", f"byte {offset} of allocation {number}"),
            ("bytes", size),
        ]
        return CompileError("E0908", what, facts, "report this, with the model")

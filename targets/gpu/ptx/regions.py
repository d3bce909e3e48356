"""Where arrays of the caller lie: made-up addresses, and the tags of who touched what.

Every array (arrays that overlap: together) is a region with its own range of 2**40 addresses, so
an address that runs off one array never lands in another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.formats import STORAGE

Array = npt.NDArray[Any]

SPAN = 40
"""Each region owns ``2**SPAN`` addresses."""


def no_tags() -> Array:
    """Return the tags of a region that nobody has written."""
    return np.zeros(0, np.int64)


@dataclass
class Shadow:
    """Tags of a region's granules: last plain write, last atomic write, readers since.

    Most regions are never written: their reads are only kept in ``log``, to be entered as tags
    when the first write comes.
    """

    writes: Array = field(default_factory=no_tags)
    atomics: Array = field(default_factory=no_tags)
    reads: Array = field(default_factory=no_tags)
    log: list[tuple[Array, Array, int]] = field(default_factory=list[tuple[Array, Array, int]])
    logged: int = 0
    written: bool = False


@dataclass
class Region:
    """Bytes at ``base``; ``names`` are the arguments in it, each with its offset and size."""

    base: int
    data: Array
    names: list[tuple[str, int, int]]
    shadow: Shadow = field(default_factory=Shadow)
    views: dict[int, Array] = field(default_factory=dict[int, Array])

    def view(self, width: int) -> Array:
        """Return the bytes as unsigned words of ``width`` bytes; a tail that fills none is cut."""
        if width not in self.views:
            whole = self.data.size // width * width
            self.views[width] = self.data[:whole].view(STORAGE[8 * width])
        return self.views[width]

    def describe(self, offset: int) -> str:
        """Return where ``offset`` lies, relative to the argument that it is nearest to."""
        inside = [n for n in self.names if n[1] <= offset < n[1] + n[2]]
        name, start, size = inside[0] if inside else self.names[0]
        return f"byte {offset - start} of {name}, which has {size} bytes"


def place(arrays: Sequence[tuple[str, Array]]) -> tuple[list[Region], list[int]]:
    """Return regions for ``arrays``, and the address of each of them."""
    spans = [(a.__array_interface__["data"][0], a.nbytes, i) for i, (_, a) in enumerate(arrays)]
    regions, addresses, end = list[Region](), [0] * len(arrays), -1
    groups = list[list[tuple[int, int, int]]]()
    for span in sorted(spans):
        if groups and span[0] < end:
            groups[-1].append(span)
        else:
            groups.append([span])
            end = -1
        end = max(end, span[0] + span[1])
    for group in groups:
        start, stop = group[0][0], max(at + size for at, size, _ in group)
        base = (len(regions) + 1) << SPAN
        names = [(arrays[i][0], at - start, size) for at, size, i in group]
        regions.append(Region(base, _bytes([arrays[i][1] for *_, i in group], start, stop), names))
        for at, _, i in group:
            addresses[i] = base + at - start
    return regions, addresses


def _bytes(arrays: list[Array], start: int, stop: int) -> Array:
    """Return a view of the bytes of arrays that overlap, from ``start`` to ``stop``."""
    if len(arrays) == 1 or all(a.nbytes == stop - start for a in arrays):
        return arrays[0].reshape(-1).view(np.uint8)
    owner = next((a for a in arrays if a.nbytes == stop - start), arrays[0].base)
    while isinstance(owner, np.ndarray):
        whole: Array = owner
        at: int = whole.__array_interface__["data"][0]
        if whole.flags.c_contiguous and at <= start and stop <= at + whole.nbytes:
            return whole.reshape(-1).view(np.uint8)[start - at : stop - at]
        owner = whole.base
    fix = "pass arrays that are parts of one contiguous array, or do not overlap"
    raise CompileError("E0907", "two arguments overlap in a way that cannot be followed", fix=fix)

"""Global memory: each access is checked against the regions of a launch, then made."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.access import Access
from tapeout.targets.gpu.ptx.faults import fault
from tapeout.targets.gpu.ptx.formats import STORAGE
from tapeout.targets.gpu.ptx.races import GlobalRaces
from tapeout.targets.gpu.ptx.regions import SPAN, Region

Array = npt.NDArray[Any]

FIX = "check the kernel's masks, and which arguments it assumes to be multiples of 16"


class GlobalMemory:
    """All regions of a launch; ``races`` is None when nobody can race."""

    def __init__(self, regions: list[Region], races: GlobalRaces | None) -> None:
        self.regions = regions
        self.races = races

    def locate(
        self, access: Access, address: Array, size: int
    ) -> Iterator[tuple[Region, Array, Array | slice]]:
        """Yield region, byte offsets in it, and which of ``address`` they are for.

        Errors: E0902 outside of every region, E0903 not a multiple of ``size``.
        """
        if not address.size:
            return
        first = int(address[0]) >> SPAN
        if 1 <= first <= len(self.regions):
            region = self.regions[first - 1]
            offset = address - np.uint64(region.base)
            # Below the base the difference wraps to a huge number.
            room = region.data.size - size
            if room >= 0 and int(offset.max()) <= room:
                aligned(access, region, offset, size)
                yield region, offset.astype(np.int64), slice(None)
                return
        numbers = (address >> np.uint64(SPAN)).astype(np.int64)
        for number in np.unique(numbers):
            chosen = np.flatnonzero(numbers == number)
            if not 1 <= number <= len(self.regions):
                raise self.outside(access, address, int(chosen[0]), size)
            region = self.regions[int(number) - 1]
            offset = (address[chosen] - np.uint64(region.base)).astype(np.int64)
            wrong = np.flatnonzero(offset > region.data.size - size)
            if wrong.size:
                raise self.outside(access, address, int(chosen[wrong[0]]), size)
            aligned(access.only(chosen), region, offset, size)
            yield region, offset, chosen

    def outside(self, access: Access, address: Array, i: int, size: int) -> CompileError:
        """Return the error of an access that no region holds, near the likeliest argument."""
        at = int(address[i])
        # An address just below a region belongs to it rather than to the far end of the last.
        number = min(max((at + (1 << (SPAN - 1))) >> SPAN, 1), len(self.regions))
        near = self.regions[number - 1].describe(at - (number << SPAN)) if number else "nowhere"
        what = f"an access of {size} bytes outside of every argument"
        facts = [*access.facts(i), ("address", near)]
        return fault("E0902", what, access.instruction, facts, FIX)

    def load(
        self, access: Access, address: Array, width: int, count: int, strong: bool = False
    ) -> list[Array]:
        """Return ``count`` words of ``width`` bytes at each address."""
        size = width * count
        out = [np.zeros(address.size, STORAGE[8 * width]) for _ in range(count)]
        for region, offset, chosen in self.locate(access, address, size):
            if self.races and not strong:
                self.races.read(access.only(chosen), region, offset, size)
            words = offset // width
            found = [region.view(width).take(words + j) for j in range(count)]
            if isinstance(chosen, slice):
                return found
            for whole, some in zip(out, found, strict=True):
                whole[chosen] = some
        return out

    def store(
        self, access: Access, address: Array, width: int, values: list[Array], strong: bool = False
    ) -> None:
        """Write ``values``, words of ``width`` bytes that follow one another, at each address."""
        size = width * len(values)
        for region, offset, chosen in self.locate(access, address, size):
            writable(access, region)
            if self.races:
                check = self.races.atomic if strong else self.races.write
                check(access.only(chosen), region, offset, size)
            words = offset // width
            view = region.view(width)
            for j, value in enumerate(values):
                view[words + j] = value[chosen]


def writable(access: Access, region: Region) -> None:
    """Errors: E0902 when the region is a constant, or an array that may not be written."""
    if not region.data.flags.writeable:
        facts = [*access.facts(0), ("address", region.names[0][0])]
        raise fault("E0902", "a write to what may only be read", access.instruction, facts)


def aligned(access: Access, region: Region, offset: Array, size: int) -> None:
    """Errors: E0903 when an offset is no multiple of ``size``."""
    odd = offset & offset.dtype.type(size - 1)
    if odd.any():
        i = int(np.flatnonzero(odd)[0])
        what = f"an access of {size} bytes at an address that is no multiple of {size}"
        facts = [*access.facts(i), ("address", region.describe(int(offset[i])))]
        raise fault("E0903", what, access.instruction, facts, FIX)

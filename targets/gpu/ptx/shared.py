"""Shared memory of the CTAs of a machine: bounds, copies in flight, races between warps.

Two warps race when both touch a granule between two barriers of their CTA and one of them
writes; two that write the same bytes do not, as Triton has warps with equal tiles do. A tag is
``epoch << 6 | warp + 1``; the epoch counts the barriers of the CTA. What
``cp.async`` will write belongs to nobody until its thread has waited for it; from then on its
warp has written it, and others need a barrier.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.access import Access, spread
from tapeout.targets.gpu.ptx.faults import fault
from tapeout.targets.gpu.ptx.formats import STORAGE

Array = npt.NDArray[Any]

WHO = np.int32(63)
SEVERAL = np.int32(63)
ATOMIC = np.int32(62)
"""Instead of a warp: several warps read, or only atomics wrote, in this epoch."""

UNWRITTEN = 0xFF
"""What memory holds before it is written: as a float, not a number."""


class SharedMemory:
    """``nbytes`` of each of ``ctas`` CTAs, in granules of ``granule`` bytes."""

    def __init__(self, ctas: int, nbytes: int, granule: int, races: bool) -> None:
        self.nbytes = nbytes
        self.stride = -(-nbytes // 16) * 16
        self.granule = granule
        self.races = races
        self.data = np.full(ctas * self.stride, UNWRITTEN, np.uint8)
        self.views = {w: self.data.view(STORAGE[8 * w]) for w in (1, 2, 4, 8)}
        size = ctas * self.stride // granule if races else 0
        self.writes = np.zeros(size, np.int32)
        self.reads = np.zeros(size, np.int32)
        self.flying = np.zeros(size, np.bool_)
        self.epoch = np.zeros(ctas, np.int32)

    def barrier(self, ctas: Array) -> None:
        """Order all that the CTAs did before all that they do next."""
        self.epoch[ctas] += 1

    def locate(self, access: Access, address: Array, size: int) -> Array:
        """Return offsets in ``data``. Errors: E0902 outside, E0903 not a multiple of ``size``."""
        offset = address.astype(np.int64)
        wrong = (offset > self.nbytes - size) | (offset & (size - 1) != 0)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            at = int(offset[i])
            outside = at > self.nbytes - size
            what = f"an access of {size} bytes " + (
                "outside of shared memory" if outside else f"at no multiple of {size}"
            )
            place = f"byte {at} of shared memory, which has {self.nbytes} bytes"
            facts = [*access.facts(i), ("address", place)]
            fix = "launch with the shared memory that the kernel's metadata asks for"
            raise fault("E0902" if outside else "E0903", what, access.instruction, facts, fix)
        return offset + access.local_cta * self.stride

    def load(self, access: Access, address: Array, width: int, count: int) -> list[Array]:
        """Return ``count`` words of ``width`` bytes at each address."""
        offset = self.locate(access, address, width * count)
        self.read(access, offset, width * count)
        words, view = offset // width, self.views[width]
        return [view.take(words + j) for j in range(count)]

    def store(self, access: Access, address: Array, width: int, values: list[Array]) -> None:
        """Write ``values``, words of ``width`` bytes that follow one another."""
        size = width * len(values)
        offset = self.locate(access, address, size)
        octets = np.stack(values, 1).view(np.uint8)
        self.write(access, offset, size, octets)
        self.place(offset, width, values)
        self.overwritten(access, offset, size, octets)

    def place(self, offset: Array, width: int, values: list[Array]) -> None:
        """Write words at offsets that were checked."""
        words, view = offset // width, self.views[width]
        for j, value in enumerate(values):
            view[words + j] = value

    def tags(self, access: Access, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return the tag of what each lane does now, and of what its epoch began with."""
        start = self.epoch[access.local_cta] << 6
        tags = start + access.warp.astype(np.int32) + np.int32(1)
        return np.broadcast_to(tags[:, None], shape), np.broadcast_to(start[:, None], shape)

    def read(self, access: Access, offset: Array, size: int) -> None:
        """Check and enter reads of ``size`` bytes. Errors: E0905."""
        if not self.races:
            return
        at = spread(offset, size, self.granule)
        own, start = self.tags(access, at.shape)
        if self.flying.any():
            self.refuse(access, at, self.flying[at], "reads what cp.async is still copying")
        old = self.writes[at]
        self.refuse(access, at, (old > start) & (old != own), "reads what another warp writes")
        old = self.reads[at]
        entered = np.where((old > start) & (old != own), start + SEVERAL, own)
        self.reads[at] = entered
        lost = self.reads[at] != entered
        if lost.any():
            self.reads[at[lost]] = (start + SEVERAL)[lost]

    def write(
        self, access: Access, offset: Array, size: int, octets: Array | None, atomic: bool = False
    ) -> None:
        """Check and enter writes of ``size`` bytes, ``octets`` if they are known. Errors: E0905."""
        if not self.races:
            return
        at = spread(offset, size, self.granule)
        own, start = self.tags(access, at.shape)
        if self.flying.any():
            self.refuse(access, at, self.flying[at], "writes where cp.async is still copying")
        old = self.reads[at]
        self.refuse(access, at, (old > start) & (old != own), "writes what another warp reads")
        if atomic:
            own = start + ATOMIC
        old = self.writes[at]
        wrong = (old > start) & (old != own)
        if octets is not None and wrong.any():
            wrong &= ~self.holds(offset, size, octets)
        self.refuse(access, at, wrong, "writes what another warp writes")
        self.writes[at] = own

    def overwritten(self, access: Access, offset: Array, size: int, octets: Array | None) -> None:
        """Check that no other warp wrote in the same step. Errors: E0905."""
        if not self.races:
            return
        at = spread(offset, size, self.granule)
        wrong = self.writes[at] != self.tags(access, at.shape)[0]
        if octets is not None and wrong.any():
            wrong &= ~self.holds(offset, size, octets)
        self.refuse(access, at, wrong, "writes what another warp writes")

    def holds(self, offset: Array, size: int, octets: Array) -> Array:
        """Return which granules hold ``octets`` already, ``[lanes, granules]``."""
        same = self.data[offset[:, None] + np.arange(size)] == octets
        return same.reshape(offset.size, -1, min(self.granule, size)).all(-1)

    def depart(self, access: Access, offset: Array, size: int) -> None:
        """Check and enter that ``cp.async`` will write ``size`` bytes. Errors: E0905."""
        self.write(access, offset, size, None)
        self.overwritten(access, offset, size, None)
        if self.races:
            self.flying[spread(offset, size, self.granule)] = True

    def land(self, access: Access, offset: Array, size: int) -> None:
        """Enter that the thread has waited for its copy: its warp writes now."""
        if self.races:
            at = spread(offset, size, self.granule)
            self.flying[at] = False
            self.writes[at] = self.tags(access, at.shape)[0]

    def refuse(self, access: Access, at: Array, wrong: Array, what: str) -> None:
        """Errors: E0905 at the first granule that is ``wrong``."""
        if wrong.any():
            raise self.race(access, at, np.argwhere(wrong)[0], what)

    def race(self, access: Access, at: Array, where: Array, what: str) -> CompileError:
        """Return the error of the access at ``at[where]``."""
        byte = int(at[tuple(where)]) * self.granule % self.stride
        facts = [*access.facts(int(where[0])), ("address", f"byte {byte} of shared memory")]
        fix = "put a barrier between the two"
        return fault(
            "E0905", f"a warp {what}, with no barrier between", access.instruction, facts, fix
        )

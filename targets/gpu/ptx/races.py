"""Races between CTAs: who last touched each granule of global memory, and what it published.

A plain access of one CTA conflicts with a write, plain or atomic, of another, and an atomic one
with a plain access, unless the earlier one *happens before* the later:

* an atomic operation with release semantics (``release``, ``acq_rel``) publishes at its address
  all that its CTA did, and all that its CTA had acquired;
* one with acquire semantics takes over what was published at its address; others that modify the
  address in between do not end this (a release sequence);
* a CTA's own accesses are ordered.

A CTA's clock counts its releases; a tag is ``clock << 32 | cta + 1``. Threads of one CTA count as
one here. Source: PTX ISA, "Memory Consistency Model", reduced to what CTAs do to each other.
"""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.access import Access, cta_name, spread
from tapeout.targets.gpu.ptx.faults import fault
from tapeout.targets.gpu.ptx.regions import Region, Shadow

Array = npt.NDArray[Any]

CTA = np.int64(0xFFFF_FFFF)
MANY = np.int64(CTA)
"""The tag of what several CTAs did, none of them ordered after the others."""

LOG_LIMIT = 1 << 24
"""Reads of a region that are remembered as they came, before they are entered as tags."""


class GlobalRaces:
    """The happens-before relation of one launch; ``granule`` is the smallest access in bytes."""

    def __init__(self, granule: int, ctas: int, grid: tuple[int, int, int]) -> None:
        self.granule = granule
        self.grid = grid
        self.now = np.ones(ctas, np.int64)
        self.known: dict[int, Array] = {}
        self.published: dict[int, Array] = {}

    def tags(self, cta: Array) -> Array:
        """Return the tag of what each CTA does now."""
        return (self.now[cta] << 32) | (cta + 1)

    def read(self, access: Access, region: Region, offset: Array, size: int) -> None:
        """Check and enter plain reads. Errors: E0904."""
        shadow, tags = region.shadow, self.tags(access.cta)
        if not shadow.written:
            shadow.log.append((offset, tags, size))
            shadow.logged += offset.size
            if shadow.logged > LOG_LIMIT:
                self.replay(region)
            return
        at = spread(offset, size, self.granule)
        own = np.broadcast_to(tags[:, None], at.shape)
        self.check(access, region, at, own, shadow.writes, "reads what another CTA writes")
        self.check(access, region, at, own, shadow.atomics, "reads what another CTA updates")
        self.enter(shadow, at, own)

    def enter(self, shadow: Shadow, at: Array, own: Array) -> None:
        """Enter readers: the second CTA that reads a granule makes them many."""
        old = shadow.reads[at]
        other = (old != 0) & ((old & CTA) != (own & CTA))
        shadow.reads[at] = np.where(other, MANY, own)
        lost = shadow.reads[at] != own
        shadow.reads[at[lost]] = MANY

    def replay(self, region: Region) -> None:
        """Enter the reads that were kept; pages of tags that nobody touches cost nothing."""
        shadow, size = region.shadow, -(-region.data.size // self.granule)
        shadow.writes, shadow.atomics, shadow.reads = (np.zeros(size, np.int64) for _ in range(3))
        for offset, tags, size in shadow.log:
            at = spread(offset, size, self.granule)
            self.enter(shadow, at, np.broadcast_to(tags[:, None], at.shape))
        shadow.log.clear()
        shadow.written = True

    def write(self, access: Access, region: Region, offset: Array, size: int) -> None:
        """Check and enter plain writes. Errors: E0904."""
        shadow, at, own = self.modify(access, region, offset, size)
        self.check(access, region, at, own, shadow.atomics, "writes what another CTA updates")
        shadow.writes[at] = own
        shadow.atomics[at] = 0
        shadow.reads[at] = 0
        if (shadow.writes[at] != own).any():
            lost = np.argwhere(shadow.writes[at] != own)[0]
            other = int(shadow.writes[at][tuple(lost)])
            raise self.race(access, region, at, lost, other, "writes what another CTA writes")

    def atomic(self, access: Access, region: Region, offset: Array, size: int) -> None:
        """Check and enter atomic updates. Errors: E0904."""
        shadow, at, own = self.modify(access, region, offset, size)
        old = shadow.atomics[at]
        late = (old != 0) & ((old & CTA) != (own & CTA)) & ~self.ordered(old, own)
        shadow.atomics[at] = np.where(late, MANY, own)
        lost = (shadow.atomics[at] != own) & ~late
        shadow.atomics[at[lost]] = MANY

    def ordered_atomic(
        self,
        access: Access,
        region: Region,
        offset: Array,
        size: int,
        acquire: bool,
        release: bool,
    ) -> None:
        """Enter atomic updates that order CTAs, one after another. Errors: E0904."""
        ctas, address = access.cta, offset + region.base
        bounds = [0, *(np.flatnonzero(np.diff(ctas)) + 1).tolist(), ctas.size]
        for start, stop in itertools.pairwise(bounds):
            own = slice(start, stop)
            if acquire:
                self.synchronise(ctas[own], address[own], True, False)
            self.atomic(access.only(np.arange(start, stop)), region, offset[own], size)
            if release:
                self.synchronise(ctas[own], address[own], False, True)

    def modify(
        self, access: Access, region: Region, offset: Array, size: int
    ) -> tuple[Shadow, Array, Array]:
        """Check any write against plain reads and writes; return shadow, granules and tags."""
        shadow, tags = region.shadow, self.tags(access.cta)
        if not shadow.written:
            self.replay(region)
        at = spread(offset, size, self.granule)
        own = np.broadcast_to(tags[:, None], at.shape)
        self.check(access, region, at, own, shadow.writes, "writes what another CTA writes")
        self.check(access, region, at, own, shadow.reads, "writes what another CTA reads")
        return shadow, at, own

    def check(
        self, access: Access, region: Region, at: Array, own: Array, others: Array, what: str
    ) -> None:
        """Errors: E0904 when a tag of another CTA at ``at`` is not ordered before ``own``."""
        old = others[at]
        conflict = (old != 0) & ((old & CTA) != (own & CTA))
        if conflict.any():
            conflict &= ~self.ordered(old, own)
            if conflict.any():
                where = np.argwhere(conflict)[0]
                raise self.race(access, region, at, where, int(old[tuple(where)]), what)

    def ordered(self, old: Array, own: Array) -> Array:
        """Return where what ``old`` stands for happens before the CTA of ``own``."""
        result = np.zeros(old.shape, np.bool_)
        cta = (own & CTA) - 1
        for one in np.unique(cta):
            known = self.known.get(int(one))
            if known is None:
                continue
            mine = cta == one
            writer = np.minimum((old[mine] & CTA) - 1, known.size - 1)
            # Of many readers it is only asked that this CTA acquired from all that released.
            everyone = bool((np.delete(known, one) >= np.delete(self.now, one) - 1).all())
            many = old[mine] == MANY
            result[mine] = np.where(many, everyone, known[writer] >= old[mine] >> 32)
        return result

    def race(
        self, access: Access, region: Region, at: Array, where: Array, tag: int, what: str
    ) -> CompileError:
        """Return the error of the access at ``at[where]`` against the one of ``tag``."""
        other = "several" if tag == MANY else cta_name(self.grid, (tag & int(CTA)) - 1)
        offset = int(at[tuple(where)]) * self.granule
        facts = [
            *access.facts(int(where[0])),
            ("other CTA", other),
            ("address", region.describe(offset)),
        ]
        fix = "give each CTA its own bytes, or order them by an acq_rel atomic"
        return fault(
            "E0904", f"a CTA {what}, and nothing orders them", access.instruction, facts, fix
        )

    def synchronise(self, cta: Array, address: Array, acquire: bool, release: bool) -> None:
        """Order CTAs by atomic operations at ``address``, one CTA after another as they stand."""
        for one in np.unique(cta):
            places = [int(a) for a in np.unique(address[cta == one])]
            known = self.known.get(int(one))
            if acquire:
                clocks = {id(c): c for p in places if (c := self.published.get(p)) is not None}
                for clock in clocks.values():
                    known = clock if known is None else np.maximum(known, clock)
                if known is not None:
                    self.known[int(one)] = known
            if release:
                said = np.zeros(self.now.size, np.int64) if known is None else known.copy()
                said[one] = self.now[one]
                for place in places:
                    old = self.published.get(place)
                    self.published[place] = (
                        said if acquire or old is None else np.maximum(said, old)
                    )
                self.now[one] += 1

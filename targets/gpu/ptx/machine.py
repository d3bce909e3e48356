"""Several CTAs in step: every lane of every warp is an element of a numpy array.

A slot's array has one element (the same in every lane) or one per lane, and is
replaced, never changed in place, so that arrays can be shared.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.formats import STORAGE
from tapeout.targets.gpu.ptx.ops_async import Flights
from tapeout.targets.gpu.ptx.program import Program

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.memory import GlobalMemory
    from tapeout.targets.gpu.ptx.shared import SharedMemory

Array = npt.NDArray[Any]

WARP = 32


class Machine:
    """The state of CTAs ``first .. first + ctas`` of a grid, ``threads`` lanes each.

    ``mask`` is a boolean per lane, or None while all lanes are active.
    """

    def __init__(
        self,
        program: Program,
        grid: tuple[int, int, int],
        first: int,
        ctas: int,
        threads: int,
        memory: "GlobalMemory",
        shared: "SharedMemory",
        uniform: dict[int, Array],
    ) -> None:
        self.program = program
        self.grid = grid
        self.threads = threads
        self.warps = threads // WARP
        self.ctas = ctas
        self.lanes = ctas * threads
        self.memory = memory
        self.shared = shared
        self.local = np.zeros((self.lanes, program.local_bytes), np.uint8)
        self.flights = Flights(self.lanes)
        self.fragments: dict[tuple[object, ...], tuple[list[Array], Array]] = {}
        self.live = np.ones(self.lanes, np.bool_)
        self.mask: Array | None = None
        self.everyone = np.arange(self.lanes)
        self.index = self.everyone
        self.cta_in_batch = self.everyone // threads
        self.cta = self.cta_in_batch + first
        self.warp = self.everyone % threads // WARP
        zeros = {width: np.zeros(1, STORAGE[width]) for width in STORAGE}
        self.slots: list[Array] = [zeros[width] for width in program.widths]
        for (value, width), slot in program.constants.items():
            self.slots[slot] = np.array([value], STORAGE[width])
        for slot, value in uniform.items():
            self.slots[slot] = value
        self.fill_special()

    def fill_special(self) -> None:
        """Give the special registers that the program reads their values."""
        nx, ny, nz = self.grid
        thread = self.everyone % self.threads
        lane = (thread % WARP).astype(np.uint64)
        one = np.uint64(1)
        values: dict[str, Array | int] = {
            "%tid.x": thread,
            "%ntid.x": self.threads,
            "%ntid.y": 1,
            "%ntid.z": 1,
            "%ctaid.x": self.cta % nx,
            "%ctaid.y": self.cta // nx % ny,
            "%ctaid.z": self.cta // (nx * ny),
            "%nctaid.x": nx,
            "%nctaid.y": ny,
            "%nctaid.z": nz,
            "%laneid": lane,
            "%warpid": self.warp,
            "%nwarpid": self.warps,
            "%lanemask_eq": one << lane,
            "%lanemask_lt": (one << lane) - one,
            "%lanemask_le": (one << (lane + one)) - one,
            "%lanemask_ge": ~((one << lane) - one),
            "%lanemask_gt": ~((one << (lane + one)) - one),
        }
        for name, value in values.items():
            slot = self.program.slots.get(name)
            if slot is not None:
                self.slots[slot] = np.atleast_1d(np.asarray(value)).astype(np.uint32)

    def narrow(self, mask: Array | None) -> None:
        """Make the lanes of ``mask`` the active ones."""
        self.mask = mask
        self.index = self.everyone if mask is None else np.flatnonzero(mask)

    def full(self, slot: int) -> Array:
        """Return a slot with one element per lane, not to be written to."""
        value = self.slots[slot]
        return value if value.shape[0] == self.lanes else np.broadcast_to(value, (self.lanes,))

    def active(self, slot: int) -> Array:
        """Return a slot's value in the active lanes, in their order."""
        value = self.full(slot)
        return value if self.mask is None else value[self.index]

    def put(self, slot: int, value: Array) -> None:
        """Write ``value``, one element or one per lane, in the active lanes."""
        if self.mask is not None:
            value = np.where(self.mask, value, self.slots[slot])
        self.slots[slot] = value

    def put_active(self, slot: int, value: Array) -> None:
        """Write ``value``, which has an element per active lane."""
        if self.mask is None:
            self.slots[slot] = value
        else:
            kept = np.array(self.full(slot))
            kept[self.index] = value
            self.slots[slot] = kept

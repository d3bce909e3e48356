"""Who touches memory, with which instruction: what checks and errors need to know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.text import Instruction

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Access:
    """``instruction`` in the lanes ``lane`` of a machine, one memory access in each."""

    instruction: Instruction
    machine: "Machine"
    lane: Array

    @property
    def cta(self) -> Array:
        """The number in the grid of each lane's CTA."""
        return self.machine.cta if self.everyone else self.machine.cta[self.lane]

    @property
    def local_cta(self) -> Array:
        """The number in the machine of each lane's CTA."""
        own = self.machine.cta_in_batch
        return own if self.everyone else own[self.lane]

    @property
    def warp(self) -> Array:
        """The number in its CTA of each lane's warp."""
        return self.machine.warp if self.everyone else self.machine.warp[self.lane]

    @property
    def everyone(self) -> bool:
        """Whether these are all lanes, in order."""
        return self.lane is self.machine.everyone

    def only(self, chosen: Array | slice) -> "Access":
        """Return the access of some of these lanes."""
        if isinstance(chosen, slice):
            return self
        return Access(self.instruction, self.machine, self.lane[chosen])

    def facts(self, i: int) -> list[tuple[str, object]]:
        """Return the facts that name the lane at position ``i``."""
        m, lane = self.machine, int(self.lane[i])
        thread = lane % m.threads
        return [
            ("CTA", cta_name(m.grid, int(m.cta[lane]))),
            ("thread", f"{thread} (warp {thread // 32}, lane {thread % 32})"),
        ]


def cta_name(grid: tuple[int, int, int], cta: int) -> str:
    """Return the place of a CTA in its grid."""
    nx, ny, _ = grid
    return str((cta % nx, cta // nx % ny, cta // (nx * ny)))


def spread(offset: Array, size: int, granule: int) -> Array:
    """Return the granules that ``size`` bytes at each offset cover, ``[lanes, granules]``."""
    first = offset // granule
    if size <= granule:
        return first[:, None]
    return first[:, None] + np.arange(size // granule)

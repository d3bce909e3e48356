"""``cp.async``: copies to shared memory that land when their thread waits for them.

Global memory is read when the copy is issued; the bytes arrive when a wait covers their group.
Until then nobody may touch them (see ``shared.py``). Source: PTX ISA 8.8, 9.7.9.25.3.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.access import Access
from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.ops_memory import at, note
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step, literal
from tapeout.targets.gpu.ptx.text import Instruction

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]


@dataclass
class Flight:
    """One copy per lane of ``access``: words of 4 bytes, and the group each belongs to."""

    access: Access
    offset: Array
    words: Array
    group: Array


class Flights:
    """The copies of a machine that have not landed; ``group`` is the one that each lane fills."""

    def __init__(self, lanes: int) -> None:
        self.group = np.zeros(lanes, np.int64)
        self.open: list[Flight] = []

    def issue(self, access: Access, offset: Array, words: Array) -> None:
        """Remember a copy of ``words`` per lane, to come to ``offset``."""
        self.open.append(Flight(access, offset, words, self.group[access.lane]))

    def commit(self, lanes: Array) -> None:
        """Close the group of these lanes."""
        self.group[lanes] += 1

    def wait(self, m: "Machine", newest: int, uncommitted: bool = False) -> None:
        """Land the copies of active lanes, but for the ``newest`` groups that were committed."""
        waits = np.zeros(m.lanes, np.bool_)
        waits[m.index] = True
        still = list[Flight]()
        for flight in self.open:
            lane = flight.access.lane
            done = waits[lane] & ((flight.group < self.group[lane] - newest) | uncommitted)
            if done.any():
                self.land(m, flight, done)
            if not done.all():
                left = ~done
                rest = flight.access.only(np.flatnonzero(left))
                words, group = flight.words[left], flight.group[left]
                still.append(Flight(rest, flight.offset[left], words, group))
        self.open = still

    def land(self, m: "Machine", flight: Flight, done: Array) -> None:
        """Write the words of copies that are ``done``."""
        offset, words = flight.offset[done], flight.words[done]
        access = flight.access.only(np.flatnonzero(done))
        m.shared.land(access, offset, words.shape[1] * 4)
        m.shared.place(offset, 4, list(words.T))


def cp(program: Program, i: Instruction) -> Step:
    """Decode ``cp.async`` with its groups and waits."""
    match i.modifiers:
        case ("async", "commit_group"):
            return lambda m: m.flights.commit(m.index)
        case ("async", "wait_all"):
            return lambda m: m.flights.wait(m, 0, uncommitted=True)
        case ("async", "wait_group"):
            count = literal(i.operands[0], i)
            return lambda m: m.flights.wait(m, count)
        case ("async", "ca" | "cg", *rest) if [r.partition("::")[0] for r in rest][:2] == [
            "shared",
            "global",
        ]:
            return copy(program, i)
        case _:
            raise unknown(i, f"'cp.{'.'.join(i.modifiers)}'")


def copy(program: Program, i: Instruction) -> Step:
    """Decode a copy of 4, 8 or 16 bytes, of which the source may give less: the rest is zero."""
    target, source, size, *given = i.operands
    nbytes = literal(size, i)
    to, of = at(program, i, target, 32), at(program, i, source, 64)
    present = program.slot(given[0], 32, i) if given else -1
    note(program, "shared", nbytes)
    note(program, "global", min(4, nbytes))

    def step(m: "Machine") -> None:
        access = Access(i, m, m.index)
        offset = m.shared.locate(access, to(m), nbytes)
        m.shared.depart(access, offset, nbytes)
        words = np.zeros((m.index.size, nbytes // 4), np.uint32)
        wanted = m.active(present) if present >= 0 else np.full(m.index.size, nbytes)
        for count in np.unique(wanted):
            if count:
                chosen = np.flatnonzero(wanted == count)
                fetch(m, access.only(chosen), of(m)[chosen], int(count), words, chosen)
        m.flights.issue(access, offset, words)

    return step


def fetch(
    m: "Machine", access: Access, address: Array, count: int, words: Array, chosen: Array
) -> None:
    """Read ``count`` bytes at each address into rows ``chosen`` of ``words``."""
    width = 4 if count % 4 == 0 else 1
    if width == 4 and count & (count - 1) == 0:
        found = m.memory.load(access, address, 4, count // 4)
        words[chosen, : count // 4] = np.stack(found, 1)
        return
    # A part of a word or three words: as single bytes.
    octets = words.view(np.uint8)
    for k in range(count):
        octets[chosen, k] = m.memory.load(access, address + np.uint64(k), 1, 1)[0]


DECODERS: dict[str, Decoder] = {"cp": cp}

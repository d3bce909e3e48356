"""Which lanes run next: those whose basic block stands first in the text.

So lanes that took different ways meet again where their ways do.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import fault
from tapeout.targets.gpu.ptx.machine import Machine
from tapeout.targets.gpu.ptx.program import Block

Array = npt.NDArray[Any]

MAX_BLOCKS = 2_000_000
MAX_POLLS = 20_000
"""Basic blocks that a batch of CTAs may run, and those of them that poll memory: beyond it, threads
wait for what never comes."""

PATIENCE = 4
TURN = 32
"""After so many blocks that poll memory while other CTAs are held back, the CTA that waited longest
has so many blocks to itself: else CTAs that spin on a lock would keep its holder from going on.
"""


class Schedule:
    """Who stands where: a mask of lanes per block that is ready, and per barrier."""

    def __init__(self, machine: Machine) -> None:
        self.m = machine
        self.blocks = machine.program.blocks
        self.everyone = np.ones(machine.lanes, np.bool_)
        self.ready: dict[int, Array] = {0: self.everyone}
        self.waiting: dict[int, Array] = {}
        self.last_turn = np.zeros(machine.ctas, np.int64)
        self.turn_of = self.left = self.polled = 0
        self.ran = self.polls = 0

    def run(self) -> None:
        """Run every lane to its end. Errors: E0906 and what the steps find."""
        while True:
            if not self.ready:
                if not self.waiting:
                    return
                raise self.stuck("a barrier that some threads of the CTA never reach")
            at, mask = self.choose()
            self.m.narrow(None if mask.all() else mask)
            block = self.blocks[at]
            for step in block.steps:
                step(self.m)
            self.end(at, block, mask)

    def choose(self) -> tuple[int, Array]:
        """Take the first block; where CTAs poll memory, give the others turns of their own."""
        self.ran += 1
        self.polls += self.blocks[min(self.ready)].polls
        if self.ran > MAX_BLOCKS or self.polls > MAX_POLLS:
            raise self.stuck("threads that wait for what no running CTA will do")
        at = min(self.ready)
        if len(self.ready) > 1:
            self.polled += self.blocks[at].polls
            if self.left or self.polled > PATIENCE:
                return self.turn()
            self.last_turn[self.m.cta_in_batch[self.ready[at]]] = self.ran
        return at, self.ready.pop(at)

    def turn(self) -> tuple[int, Array]:
        """Take the first block of one CTA: of the same one throughout a turn, while it can run."""
        able = np.zeros(self.m.ctas, np.bool_)
        for mask in self.ready.values():
            able[self.m.cta_in_batch[mask]] = True
        if not self.left or not able[self.turn_of]:
            waited = np.where(able, self.last_turn, np.iinfo(np.int64).max)
            self.turn_of, self.left, self.polled = int(waited.argmin()), TURN, 0
        self.left -= 1
        self.last_turn[self.turn_of] = self.ran
        own = self.m.cta_in_batch == self.turn_of
        at = min(b for b, mask in self.ready.items() if (mask & own).any())
        mask = self.ready.pop(at)
        self.add(at, mask & ~own)
        return at, mask & own

    def add(self, at: int, mask: Array) -> None:
        """Let the lanes of ``mask`` go on at block ``at``."""
        if mask.any():
            self.ready[at] = self.ready[at] | mask if at in self.ready else mask

    def end(self, at: int, block: Block, mask: Array) -> None:
        """Send the lanes of ``mask`` on to where the block's last instruction sends them."""
        last = block.end
        if last is None:
            if at + 1 < len(self.blocks):
                self.add(at + 1, mask)
            return
        if block.barrier >= 0:
            self.arrive(at, mask)
            return
        taken = mask
        if block.guard >= 0:
            holds = self.m.full(block.guard)
            taken = mask & (~holds if last.unless else holds)
            self.add(at + 1, mask & ~taken)
        if last.root == "bra":
            self.add(block.target, taken)
        elif last.root in ("ret", "exit"):
            self.m.live = self.m.live & ~taken
            for waits in list(self.waiting):
                self.release(waits)
        elif last.root == "trap":
            if taken.any():
                raise fault("E0906", "the kernel stopped itself", last)
        else:
            self.add(at + 1, taken)

    def arrive(self, at: int, mask: Array) -> None:
        """Let the lanes of ``mask`` wait at the end of block ``at``."""
        self.waiting[at] = self.waiting[at] | mask if at in self.waiting else mask
        self.release(at)

    def release(self, at: int) -> None:
        """Let those CTAs pass the barrier at the end of block ``at`` whose lanes are all there.

        Lanes of one CTA may wait at two places for barriers of the same number: both are one.
        """
        number = self.blocks[at].barrier
        places = [p for p in self.waiting if self.blocks[p].barrier == number]
        arrived = np.logical_or.reduce([self.waiting[p] for p in places])
        missing = self.m.live & ~arrived
        if not missing.any():
            released = arrived
        else:
            late = np.zeros(self.m.ctas, np.bool_)
            late[self.m.cta_in_batch[missing]] = True
            released = arrived & ~late[self.m.cta_in_batch]
            if not released.any():
                return
        self.m.shared.barrier(np.unique(self.m.cta_in_batch[released]))
        for place in places:
            self.add(place + 1, self.waiting[place] & released)
            left = self.waiting[place] & ~released
            if left.any():
                self.waiting[place] = left
            else:
                del self.waiting[place]

    def stuck(self, what: str) -> Exception:
        """Return the error that names where threads stand."""
        waiting = [b.end for b in (self.blocks[at] for at in self.waiting) if b.end]
        standing = [b.end for b in (self.blocks[at] for at in self.ready) if b.end]
        places = waiting or standing
        facts = [
            ("waiting", f"{int(mask.sum())} lanes at PTX line {e.line}")
            for mask, e in zip(self.waiting.values(), waiting, strict=False)
        ]
        return fault("E0906", what, places[0], facts, "look for a missing arrival or release")

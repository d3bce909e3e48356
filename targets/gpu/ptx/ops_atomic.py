"""Atomic updates of global and shared memory, and fences. Source: PTX ISA 8.8, 9.7.13.

Lanes take turns in their order: CTA by CTA, thread by thread.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.access import Access
from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, STORAGE, Format
from tapeout.targets.gpu.ptx.memory import writable
from tapeout.targets.gpu.ptx.ops_float import greatest, least
from tapeout.targets.gpu.ptx.ops_memory import at, note, space_of
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.text import Instruction

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
Update = Callable[..., Array]


def increment(old: Array, limit: Array) -> Array:
    """Return the next number, 0 after ``limit``."""
    return np.where(old >= limit, old * 0, old + old.dtype.type(1))


def decrement(old: Array, limit: Array) -> Array:
    """Return the number before, ``limit`` after 0 and from above it."""
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


def exchange(old: Array, new: Array) -> Array:
    """Return the new number."""
    return new


def compare_and_swap(old: Array, expected: Array, new: Array) -> Array:
    """Return ``new`` where ``expected`` was found."""
    return np.where(old == expected, new, old)


UPDATE: dict[str, Update] = {
    "add": np.add,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": exchange,
    "cas": compare_and_swap,
    "inc": increment,
    "dec": decrement,
    "min": np.minimum,
    "max": np.maximum,
}
FLOAT_UPDATE: dict[str, Update] = {"min": least, "max": greatest}


def turns(address: Array) -> Iterator[Array | slice]:
    """Yield positions such that no address comes twice in one turn, in the order of lanes."""
    order = np.argsort(address, kind="stable")
    ordered = address[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    rank = np.arange(address.size) - np.repeat(starts, np.diff(starts, append=address.size))
    last = int(rank.max())
    if last == 0:
        yield slice(None)
        return
    for turn in range(last + 1):
        yield order[rank == turn]


def update_in(view: Array, words: Array, fmt: Format, update: Update, values: list[Array]) -> Array:
    """Update ``view[words]`` in turns; return what each lane found there."""
    found = np.empty(words.size, view.dtype)
    for some in turns(words):
        place = words[some]
        old = view[place]
        found[some] = old
        view[place] = fmt.encode(update(fmt.decode(old), *[v[..., some] for v in values]))
    return found


def atomic(program: Program, i: Instruction) -> Step:
    """Decode ``atom``, which returns what was there, and ``red``, which does not."""
    fmt = FORMATS[i.modifiers[-1]]
    name = next((m for m in i.modifiers if m in UPDATE), "")
    if not name or {"v2", "v4", "v8"} & set(i.modifiers):
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    update = FLOAT_UPDATE.get(name, UPDATE[name]) if fmt.kind in ("f", "half") else UPDATE[name]
    out, operands = (i.operands[0], i.operands[1:]) if i.root == "atom" else (None, i.operands)
    space = space_of(i)
    where = at(program, i, operands[0], 32 if space == "shared" else 64)
    count = 2 if name == "cas" else 1
    reads = [program.reader(o, fmt, i) for o in operands[1 : 1 + count]]
    writer = program.writer(out, FORMATS[f"b{fmt.bits}"], i) if out else None
    width = fmt.bits // 8
    note(program, space, width)
    # What holds for the threads of one CTA orders no two CTAs.
    wide = "cta" not in i.modifiers
    acquire = wide and bool({"acquire", "acq_rel"} & set(i.modifiers))
    release = wide and bool({"release", "acq_rel"} & set(i.modifiers))

    def in_global(m: "Machine", access: Access, address: Array, values: list[Array]) -> Array:
        found = np.zeros(address.size, STORAGE[fmt.bits])
        races = m.memory.races
        for region, offset, chosen in m.memory.locate(access, address, width):
            some = access.only(chosen)
            writable(some, region)
            if races and (acquire or release):
                races.ordered_atomic(some, region, offset, width, acquire, release)
            elif races:
                races.atomic(some, region, offset, width)
            mine = [v[..., chosen] for v in values]
            found[chosen] = update_in(region.view(width), offset // width, fmt, update, mine)
        return found

    def in_shared(m: "Machine", access: Access, address: Array, values: list[Array]) -> Array:
        offset = m.shared.locate(access, address, width)
        m.shared.write(access, offset, width, None, atomic=True)
        return update_in(m.shared.views[width], offset // width, fmt, update, values)

    perform = in_shared if space == "shared" else in_global

    def step(m: "Machine") -> None:
        values = [read(m.active(slot)) for slot, read in reads]
        found = perform(m, Access(i, m, m.index), where(m), values)
        if writer:
            m.put_active(writer[0], writer[1](found))

    return step


def fence(program: Program, i: Instruction) -> Step:
    """Decode a fence: CTAs run in steps, so memory is always up to date.

    Only atomics with acquire and release semantics order CTAs for the race check.
    """
    return lambda m: None


DECODERS: dict[str, Decoder] = {"atom": atomic, "red": atomic, "fence": fence, "membar": fence}

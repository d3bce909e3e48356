"""What lanes of a warp do together: shuffles, votes, reductions.

Every member that the mask names must be there, or have ended: E0906 otherwise.
Source: PTX ISA 8.8, 9.7.9 and 9.7.13.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import fault, unknown
from tapeout.targets.gpu.ptx.formats import FORMATS
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.text import Instruction, Not, Operand, Pair, Register

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]

LANE = np.arange(32, dtype=np.int64)
BIT = np.uint32(1) << np.arange(32, dtype=np.uint32)
U32, PRED = FORMATS["u32"], FORMATS["pred"]


def by_warp(m: "Machine", slot: int) -> Array:
    """Return a slot as ``[warps, 32]``."""
    return m.full(slot).reshape(-1, 32)


def present(m: "Machine") -> Array:
    """Return which lanes are active, ``[warps, 32]``."""
    mask = np.ones(m.lanes, np.bool_) if m.mask is None else m.mask
    return mask.reshape(-1, 32)


def members(m: "Machine", slot: int, i: Instruction) -> Array:
    """Return whom the mask of each lane names, ``[warps, 32]``. Errors: E0906 for absent ones."""
    here = present(m)
    mask = by_warp(m, slot)
    chosen = np.where(here, mask, np.uint32(0)).max(1)
    named = (chosen[:, None] & BIT) != 0
    absent = named & ~here & m.live.reshape(-1, 32)
    if absent.any():
        warp, lane = np.argwhere(absent)[0]
        facts = [("warp", int(warp) % m.warps), ("lane that is elsewhere", int(lane))]
        raise fault("E0906", "a lane that is named takes no part", i, facts)
    return named


SOURCE: dict[str, Callable[[Array, Array], Array]] = {
    "up": lambda lane, b: lane - b,
    "down": lambda lane, b: lane + b,
    "bfly": lambda lane, b: lane ^ b,
    "idx": lambda lane, b: b,
}


def shfl(program: Program, i: Instruction) -> Step:
    """Decode an exchange of registers; beyond its segment a lane keeps its own value."""
    mode = i.modifiers[1]
    source = SOURCE[mode]
    out, value, distance, clamp, mask = i.operands
    first, second = (out.first, out.second) if isinstance(out, Pair) else (out, None)
    d, encode = program.writer(first, U32, i)
    p = program.writer(second, PRED, i)[0] if second else -1
    a, b, c, who = (program.slot(o, 32, i) for o in (value, distance, clamp, mask))

    def step(m: "Machine") -> None:
        members(m, who, i)
        by, held = by_warp(m, b).astype(np.int64) & 31, by_warp(m, c).astype(np.int64)
        limit, segment = held & 31, held >> 8 & 31
        first_of = LANE & segment
        last = first_of | (limit & ~segment)
        j = source(LANE, by)
        if mode == "idx":
            j = first_of | (j & ~segment)
        valid = j >= last if mode == "up" else j <= last
        j = np.where(valid, j, LANE)
        moved = np.take_along_axis(by_warp(m, a), j, 1)
        m.put(d, encode(moved.ravel()))
        if p >= 0:
            m.put(p, valid.ravel())

    return step


def vote(program: Program, i: Instruction) -> Step:
    """Decode ``vote.sync``: all, any, uni, or ballot."""
    mode = i.modifiers[1]
    out, source, mask = i.operands
    negated = isinstance(source, Not)
    inner: Operand = source.operand if isinstance(source, Not) else source
    p, who = program.slot(inner, 1, i), program.slot(mask, 32, i)
    d, encode = program.writer(out, U32 if mode == "ballot" else PRED, i)

    def step(m: "Machine") -> None:
        named = members(m, who, i)
        holds = by_warp(m, p) ^ negated
        yes, no = (holds & named).any(1), (~holds & named).any(1)
        ballot = np.where(holds & named, BIT, np.uint32(0)).sum(1, dtype=np.uint32)
        result = {"all": ~no, "any": yes, "uni": ~(yes & no), "ballot": ballot}[mode]
        m.put(d, encode(np.repeat(result, 32)))

    return step


def activemask(program: Program, i: Instruction) -> Step:
    """Decode who is active."""
    d, encode = program.writer(i.operands[0], U32, i)

    def step(m: "Machine") -> None:
        bits = np.where(present(m), BIT, np.uint32(0)).sum(1, dtype=np.uint32)
        m.put(d, encode(np.repeat(bits, 32)))

    return step


REDUCE: dict[str, tuple[Any, int]] = {
    "add": (np.add, 0),
    "and": (np.bitwise_and, -1),
    "or": (np.bitwise_or, 0),
    "xor": (np.bitwise_xor, 0),
    "min": (np.minimum, 1),
    "max": (np.maximum, -1),
}


def redux(program: Program, i: Instruction) -> Step:
    """Decode a reduction over the members of a warp."""
    fmt = FORMATS[i.modifiers[-1]]
    name = i.modifiers[1]
    if name not in REDUCE or fmt.kind not in "us":
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    function, _ = REDUCE[name]
    bounds = np.iinfo(np.int32 if fmt.kind == "s" else np.uint32)
    neutral = {"min": bounds.max, "max": bounds.min, "and": 2**32 - 1}.get(name, 0)
    out, value, mask = i.operands
    d, encode = program.writer(out, fmt, i)
    a, who = program.slot(value, 32, i), program.slot(mask, 32, i)

    def step(m: "Machine") -> None:
        named = members(m, who, i)
        values = fmt.decode(np.ascontiguousarray(by_warp(m, a)))
        fill = np.array(neutral).astype(values.dtype)
        reduced = function.reduce(np.where(named, values, fill), axis=1)
        m.put(d, encode(np.repeat(reduced.astype(values.dtype), 32)))

    return step


def match(program: Program, i: Instruction) -> Step:
    """Decode ``match.any.sync``: who holds the same value."""
    if i.modifiers[0] != "any" or isinstance(i.operands[0], Pair):
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    out, value, mask = i.operands
    bits = FORMATS[i.modifiers[-1]].bits
    d, encode = program.writer(out, U32, i)
    a, who = program.slot(value, bits, i), program.slot(mask, 32, i)

    def step(m: "Machine") -> None:
        named = members(m, who, i)
        values = by_warp(m, a)
        same = (values[:, :, None] == values[:, None, :]) & named[:, None, :]
        m.put(d, encode(np.where(same, BIT, np.uint32(0)).sum(2, dtype=np.uint32).ravel()))

    return step


def elect(program: Program, i: Instruction) -> Step:
    """Decode the choice of the first member as leader."""
    out, mask = i.operands
    if not isinstance(out, Pair):
        raise unknown(i, "an election without a predicate")
    p = program.writer(out.second, PRED, i)[0]
    swallow = isinstance(out.first, Register) and out.first.name == "_"
    d = -1 if swallow else program.writer(out.first, U32, i)[0]
    who = program.slot(mask, 32, i)

    def step(m: "Machine") -> None:
        leader = members(m, who, i).argmax(1)
        m.put(p, (leader[:, None] == LANE).ravel())
        if d >= 0:
            m.put(d, np.repeat(leader, 32).astype(np.uint32))

    return step


DECODERS: dict[str, Decoder] = {
    "shfl": shfl,
    "vote": vote,
    "activemask": activemask,
    "redux": redux,
    "match": match,
    "elect": elect,
}

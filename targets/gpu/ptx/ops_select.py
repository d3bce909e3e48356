"""Comparisons, selections and moves. Source: PTX ISA 8.8, 9.7.6, 9.7.7 and 9.7.9."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, STORAGE, Format
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.rounding import flush
from tapeout.targets.gpu.ptx.text import Instruction, Not, Pair, Register, Vector

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
Compare = Callable[[Array, Array], Array]


def unordered(a: Array, b: Array) -> Array:
    """Return where an operand is NaN."""
    return np.isnan(a) | np.isnan(b)


def or_unordered(compare: Compare) -> Compare:
    """Return ``compare``, true as well where an operand is NaN."""
    return lambda a, b: compare(a, b) | unordered(a, b)


ORDERED: dict[str, Compare] = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
COMPARE: dict[str, Compare] = {
    **ORDERED,
    **{f"{name}u": or_unordered(c) for name, c in ORDERED.items() if name[0] not in "hs"},
    # numpy's != holds for NaN, PTX's ne does not.
    "ne": lambda a, b: (a != b) & (a == a) & (b == b),
    "neu": np.not_equal,
    "num": lambda a, b: ~unordered(a, b),
    "nan": unordered,
}
COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
PRED = FORMATS["pred"]


def comparison(i: Instruction, fmt: Format) -> Compare:
    """Return what the instruction compares, with subnormals as zeros where it says so."""
    name = i.modifiers[0]
    if name not in COMPARE:
        raise unknown(i, f"the comparison '{name}'")
    compare = np.not_equal if name == "ne" and fmt.kind in "us" else COMPARE[name]
    if "ftz" in i.modifiers and fmt.name == "f32":
        return lambda a, b: compare(flush(a), flush(b))
    return compare


def setp(program: Program, i: Instruction) -> Step:
    """Decode a comparison into one predicate, or one and its negation."""
    fmt = FORMATS[i.modifiers[-1]]
    if fmt.name.endswith("x2"):
        raise unknown(i, "a comparison of packed numbers into two predicates")
    compare = comparison(i, fmt)
    out, left, right, *third = i.operands
    first, second = (out.first, out.second) if isinstance(out, Pair) else (out, Register("_"))
    p, _ = program.writer(first, PRED, i)
    q, _ = program.writer(second, PRED, i)
    a, read_a = program.reader(left, fmt, i)
    b, read_b = program.reader(right, fmt, i)
    combine = next((COMBINE[m] for m in i.modifiers if m in COMBINE), None)
    other = third[0] if third else None
    negated = isinstance(other, Not)
    c = program.slot(other.operand if isinstance(other, Not) else other, 1, i) if other else -1
    both = isinstance(out, Pair)

    def step(m: "Machine") -> None:
        holds = compare(read_a(m.slots[a]), read_b(m.slots[b]))
        fails = ~holds
        if combine:
            with_ = ~m.slots[c] if negated else m.slots[c]
            holds, fails = combine(holds, with_), combine(fails, with_)
        m.put(p, holds)
        if both:
            m.put(q, fails)

    return step


def set_(program: Program, i: Instruction) -> Step:
    """Decode a comparison into a number: all ones or 1.0 where it holds."""
    result, fmt = FORMATS[i.modifiers[-2]], FORMATS[i.modifiers[-1]]
    compare = comparison(i, fmt)
    if result.kind in "us":
        dtype = STORAGE[result.bits] if result.kind == "u" else np.dtype(f"i{result.bits // 8}")
        ones = np.array(-1).astype(dtype)
        return program.elementwise(
            i, lambda a, b: np.where(compare(a, b), ones, ones * 0), result, [fmt, fmt]
        )
    return program.elementwise(i, lambda a, b: compare(a, b).astype(np.float32), result, [fmt, fmt])


def selp(program: Program, i: Instruction) -> Step:
    """Decode a choice by a predicate."""
    bits = FORMATS[f"b{FORMATS[i.modifiers[-1]].bits}"]

    def choose(a: Array, b: Array, p: Array) -> Array:
        return np.where(p, a, b)

    return program.elementwise(i, choose, bits, [bits, bits, PRED])


def slct(program: Program, i: Instruction) -> Step:
    """Decode a choice by a sign."""
    fmt, sign = FORMATS[f"b{FORMATS[i.modifiers[-2]].bits}"], FORMATS[i.modifiers[-1]]
    return program.elementwise(i, lambda a, b, c: np.where(c >= 0, a, b), fmt, [fmt, fmt, sign])


def mov(program: Program, i: Instruction) -> Step:
    """Decode a move: of a register, a literal, an address, or parts joined or taken apart."""
    kind = i.modifiers[-1]
    fmt = PRED if kind == "pred" else FORMATS[f"b{FORMATS[kind].bits}"]
    out, source = i.operands
    if isinstance(source, Vector):
        return joined(program, i, fmt, source)
    if isinstance(out, Vector):
        return apart(program, i, fmt, out)
    return program.elementwise(i, lambda a: a, fmt, [fmt])


def joined(program: Program, i: Instruction, fmt: Format, source: Vector) -> Step:
    """Decode ``mov d, {a, b}``: ``a`` in the low bits."""
    part = fmt.bits // len(source.parts)
    d, encode = program.writer(i.operands[0], fmt, i)
    reads = [program.reader(p, FORMATS[f"b{part}"], i) for p in source.parts]
    storage = STORAGE[fmt.bits]

    def step(m: "Machine") -> None:
        out = np.zeros(1, storage)
        for k, (slot, read) in enumerate(reads):
            out = out | (read(m.slots[slot]).astype(storage) << storage(part * k))
        m.put(d, encode(out))

    return step


def apart(program: Program, i: Instruction, fmt: Format, out: Vector) -> Step:
    """Decode ``mov {a, b}, s``: ``a`` from the low bits."""
    part = FORMATS[f"b{fmt.bits // len(out.parts)}"]
    s, read = program.reader(i.operands[1], fmt, i)
    writes = [program.writer(p, part, i) for p in out.parts]
    storage, narrow = STORAGE[fmt.bits], STORAGE[part.bits]

    def step(m: "Machine") -> None:
        whole = read(m.slots[s])
        for k, (slot, encode) in enumerate(writes):
            m.put(slot, encode((whole >> storage(part.bits * k)).astype(narrow)))

    return step


def cvta(program: Program, i: Instruction) -> Step:
    """Decode a change of address space; every space keeps its own addresses here."""
    fmt = FORMATS[i.modifiers[-1]]
    return program.elementwise(i, lambda a: a, fmt, [fmt])


def nothing(program: Program, i: Instruction) -> Step:
    """Decode what changes no value: hints."""
    return lambda m: None


def policy(program: Program, i: Instruction) -> Step:
    """Decode a cache policy, which changes no value."""
    d, _ = program.writer(i.operands[0], FORMATS["b64"], i)
    zero = np.zeros(1, np.uint64)
    return lambda m: m.put(d, zero)


DECODERS: dict[str, Decoder] = {
    "setp": setp,
    "set": set_,
    "selp": selp,
    "slct": slct,
    "mov": mov,
    "cvta": cvta,
    "createpolicy": policy,
    "prefetch": nothing,
    "prefetchu": nothing,
    "discard": nothing,
    "applypriority": nothing,
    "nanosleep": nothing,
    "griddepcontrol": nothing,
}

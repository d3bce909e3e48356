"""Loads and stores of every space, and ``ldmatrix``. Source: PTX ISA 8.8, 9.7.9 and 9.7.15."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.access import Access
from tapeout.targets.gpu.ptx.faults import fault, unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, STORAGE
from tapeout.targets.gpu.ptx.program import STRONG, Decoder, Program, Step, parts
from tapeout.targets.gpu.ptx.text import Address, Instruction, Operand

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
Where = Callable[["Machine"], Array]


def space_of(i: Instruction) -> str:
    """Return the state space; generic addresses are those of global memory."""
    for modifier in i.modifiers:
        name = modifier.partition("::")[0]
        if name in ("global", "shared", "local", "param", "const"):
            return "global" if name == "const" else name
    return "global"


def at(program: Program, i: Instruction, operand: Operand, bits: int) -> Where:
    """Return what computes an operand's address in the active lanes."""
    if not isinstance(operand, Address):
        raise unknown(i, f"an address of this kind: {operand}")
    slot = program.slot(operand.base, bits, i)
    width = program.widths[slot]
    offset = STORAGE[width](operand.offset % 2**width)
    if operand.offset == 0:
        return lambda m: m.active(slot)
    return lambda m: m.active(slot) + offset


def shape_of(i: Instruction) -> tuple[int, int]:
    """Return bytes of an element and how many of them a vector access has."""
    count = next((int(m[1]) for m in i.modifiers if m in ("v2", "v4", "v8")), 1)
    return FORMATS[i.modifiers[-1]].bits // 8, count


def ld(program: Program, i: Instruction) -> Step:
    """Decode a load of one to eight elements."""
    space = space_of(i)
    out, source, *_ = i.operands
    if space == "param":
        return parameter(program, i, out, source)
    width, count = shape_of(i)
    fmt = FORMATS[i.modifiers[-1]]
    where = at(program, i, source, 32 if space == "shared" else 64)
    raw = FORMATS[f"b{fmt.bits}"] if fmt.kind != "s" else fmt
    writes = [program.writer(p, raw, i) for p in parts(out)]
    if len(writes) != count:
        raise unknown(i, f"{len(writes)} results of {count} elements")
    load = {"global": global_load, "shared": shared_load, "local": local_load}[space]
    note(program, space, width * count)
    strong, acquire = bool(STRONG & set(i.modifiers)), "acquire" in i.modifiers

    def step(m: "Machine") -> None:
        access = Access(i, m, m.index)
        address = where(m)
        values = load(access, address, width, count, strong)
        if acquire and m.memory.races:
            m.memory.races.synchronise(access.cta, address, True, False)
        for (slot, encode), value in zip(writes, values, strict=True):
            m.put_active(slot, encode(value.view(raw.decode(value).dtype)))

    return step


def note(program: Program, space: str, size: int) -> None:
    """Keep the smallest access of a space: it is the granule in which races are found."""
    if space in program.smallest:
        program.smallest[space] = min(program.smallest[space], size)


def parameter(program: Program, i: Instruction, out: Operand, source: Operand) -> Step:
    """Decode a load of a kernel's parameter: a move from its slot."""
    fmt = FORMATS[f"b{FORMATS[i.modifiers[-1]].bits}"]
    if not isinstance(source, Address) or source.offset or len(parts(out)) != 1:
        raise unknown(i, "a load of a part of a parameter")
    d, encode = program.writer(out, fmt, i)
    s, read = program.reader(source.base, fmt, i)
    return lambda m: m.put(d, encode(read(m.slots[s])))


def st(program: Program, i: Instruction) -> Step:
    """Decode a store of one to eight elements."""
    space = space_of(i)
    target, value, *_ = i.operands
    width, count = shape_of(i)
    fmt = FORMATS[f"b{8 * width}"]
    where = at(program, i, target, 32 if space == "shared" else 64)
    reads = [program.reader(p, fmt, i) for p in parts(value)]
    if len(reads) != count:
        raise unknown(i, f"{len(reads)} values of {count} elements")
    store = {"global": global_store, "shared": shared_store, "local": local_store}[space]
    note(program, space, width * count)
    strong, release = bool(STRONG & set(i.modifiers)), "release" in i.modifiers

    def step(m: "Machine") -> None:
        access = Access(i, m, m.index)
        values = [read(m.active(slot)) for slot, read in reads]
        address = where(m)
        store(access, address, width, values, strong)
        if release and m.memory.races:
            m.memory.races.synchronise(access.cta, address, False, True)

    return step


def global_load(
    access: Access, address: Array, width: int, count: int, strong: bool
) -> list[Array]:
    """Load from arguments and constants."""
    return access.machine.memory.load(access, address, width, count, strong)


def global_store(
    access: Access, address: Array, width: int, values: list[Array], strong: bool
) -> None:
    """Store to arguments."""
    access.machine.memory.store(access, address, width, values, strong)


def shared_load(
    access: Access, address: Array, width: int, count: int, strong: bool
) -> list[Array]:
    """Load from the CTA's own memory."""
    return access.machine.shared.load(access, address, width, count)


def shared_store(
    access: Access, address: Array, width: int, values: list[Array], strong: bool
) -> None:
    """Store to the CTA's own memory."""
    access.machine.shared.store(access, address, width, values)


def local_words(access: Access, address: Array, width: int, count: int) -> tuple[Array, Array]:
    """Return the lanes' own memory in words, and each lane's first. Errors: E0902, E0903."""
    memory = access.machine.local
    size = width * count
    wrong = (address > memory.shape[1] - size) | (address & np.uint64(size - 1) != 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        code = "E0903" if int(address[first]) <= memory.shape[1] - size else "E0902"
        place = ("address", f"byte {address[first]} of {memory.shape[1]} bytes")
        facts = [*access.facts(first), place]
        raise fault(
            code, f"a wrong access of {size} bytes of local memory", access.instruction, facts
        )
    return memory.view(STORAGE[8 * width]), address.astype(np.int64) // width


def local_load(access: Access, address: Array, width: int, count: int, strong: bool) -> list[Array]:
    """Load from the lane's own memory."""
    view, words = local_words(access, address, width, count)
    return [view[access.lane, words + j] for j in range(count)]


def local_store(
    access: Access, address: Array, width: int, values: list[Array], strong: bool
) -> None:
    """Store to the lane's own memory."""
    view, words = local_words(access, address, width, len(values))
    for j, value in enumerate(values):
        view[access.lane, words + j] = value


def ldmatrix(program: Program, i: Instruction) -> Step:
    """Decode loads of 8x8 matrices of 16 bits: lane ``8 j + r`` names row ``r`` of matrix ``j``.

    Lane ``l`` receives elements ``2 (l % 4)`` and the next of row ``l // 4``, or of that column
    with ``.trans``.
    """
    count = next((int(m[1]) for m in i.modifiers if m in ("x1", "x2", "x4")), 0)
    if not {"m8n8", "b16"} <= set(i.modifiers) or not count:
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    trans = "trans" in i.modifiers
    out, source = i.operands
    b32 = FORMATS["b32"]
    writes = [program.writer(p, b32, i) for p in parts(out)]
    where = at(program, i, source, 32)
    note(program, "shared", 16)

    def step(m: "Machine") -> None:
        if m.index.size % 32:
            raise fault("E0906", "ldmatrix in a part of a warp", i)
        shape = (-1, 32)
        lanes = m.index.reshape(shape)[:, : 8 * count]
        address = where(m).reshape(shape)[:, : 8 * count]
        words = m.shared.load(Access(i, m, lanes.ravel()), address.ravel(), 4, 4)
        rows = np.stack(words, 1).view(np.uint16).reshape(-1, count, 8, 8)
        if trans:
            rows = np.ascontiguousarray(rows.transpose(0, 1, 3, 2))
        found = rows.view(np.uint32).reshape(-1, count, 32)
        for j, (slot, encode) in enumerate(writes):
            m.put_active(slot, encode(found[:, j].ravel()))

    return step


DECODERS: dict[str, Decoder] = {"ld": ld, "ldu": ld, "st": st, "ldmatrix": ldmatrix}

"""Bits found, counted, moved and permuted. Source: PTX ISA 8.8, 9.7.1, 9.7.8 and 9.7.9."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS
from tapeout.targets.gpu.ptx.ops_integer import shift_left, shift_right, typed
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step, literal
from tapeout.targets.gpu.ptx.text import Immediate, Instruction

Array = npt.NDArray[Any]
U32, U64 = np.uint32, np.uint64


def funnel(left: bool, wrap: bool) -> Callable[[Array, Array, Array], Array]:
    """Return ``shf``: shift ``b:a`` and keep the upper half (left) or the lower (right)."""

    def shift(a: Array, b: Array, n: Array) -> Array:
        count = (n & U32(31) if wrap else np.minimum(n, U32(32))).astype(U64)
        whole = (b.astype(U64) << U64(32)) | a.astype(U64)
        return ((whole << count) >> U64(32) if left else whole >> count).astype(U32)

    return shift


def extract(a: Array, start: Array, length: Array) -> Array:
    """Return the bit field of ``a``, extended by its sign where ``a`` is signed."""
    bits, kind = 8 * a.dtype.itemsize, a.dtype.type
    start, length = start & U32(255), length & U32(255)
    shifted = shift_right(a, start)
    keep = np.where(
        length < bits, (U64(1) << np.minimum(length, U32(63)).astype(U64)) - U64(1), ~U64(0)
    )
    field = shifted.astype(U64) & keep
    if a.dtype.kind == "i":
        last = np.minimum(start.astype(np.int64) + length.astype(np.int64) - 1, bits - 1)
        sign = (shift_right(a.astype(np.int64), np.maximum(last, 0)) & 1) * (length > 0)
        field = np.where(sign == 1, field | ~keep, field)
    return field.astype(np.int64).astype(kind) if a.dtype.kind == "i" else field.astype(kind)


def insert(a: Array, b: Array, start: Array, length: Array) -> Array:
    """Return ``b`` with the low bits of ``a`` in the place of its bit field."""
    one = b.dtype.type(1)
    start, length = start & U32(255), length & U32(255)
    field = shift_left(shift_left(np.broadcast_to(one, length.shape), length) - one, start)
    return (b & ~field) | (shift_left(a, start) & field)


def highest_bit(a: Array) -> Array:
    """Return the place of the highest bit that differs from the sign, or all ones."""
    value = np.where(a < 0, ~a, a) if a.dtype.kind == "i" else a
    value = value.astype(U64)
    place = np.full(value.shape, -1, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        above = value >> U64(step) != 0
        place = np.where(above, place + step, place)
        value = np.where(above, value >> U64(step), value)
    return np.where(value != 0, place + 1, -1).astype(U32)


def leading_zeros(a: Array) -> Array:
    """Return how many bits above the highest one are zero."""
    return U32(8 * a.dtype.itemsize - 1) - highest_bit(a)


def bit_count(a: Array) -> Array:
    """Return how many bits are set."""
    return np.bitwise_count(a).astype(U32)


def reverse(a: Array) -> Array:
    """Return ``a`` with its bits in reverse order."""
    octets = np.ascontiguousarray(a.byteswap()).view(np.uint8)
    flipped = np.packbits(np.unpackbits(octets, bitorder="little"), bitorder="big")
    return flipped.view(a.dtype)


def permute(a: Array, b: Array, selector: Array) -> Array:
    """Return four bytes of ``b:a``, each chosen (or its sign repeated) by a nibble."""
    whole = (b.astype(U64) << U64(32)) | a.astype(U64)
    out = np.zeros(1, U32)
    for i in range(4):
        nibble = (selector >> U32(4 * i)) & U32(15)
        byte = (whole >> ((nibble & U32(7)) * U32(8)).astype(U64)) & U64(255)
        if (nibble & U32(8)).any():
            sign = np.where(byte & U64(128), U64(255), U64(0))
            byte = np.where(nibble & U32(8), sign, byte)
        out = out | (byte.astype(U32) << U32(8 * i))
    return out


def permute_by(selector: int) -> Callable[[Array, Array], Array]:
    """Return :func:`permute` for a known selector without signs: runs of bytes move at once."""
    nibbles = [selector >> (4 * i) & 15 for i in range(4)]

    def run(a: Array, b: Array) -> Array:
        out = np.zeros(1, U32)
        for i, nibble in enumerate(nibbles):
            source = a if nibble < 4 else b
            byte = (source >> U32(8 * (nibble & 3))) & U32(255)
            out = out | (byte << U32(8 * i))
        return out

    return run


def lop3(table: int) -> Callable[[Array, Array, Array], Array]:
    """Return the function of three bits that ``table`` lists."""

    def run(a: Array, b: Array, c: Array) -> Array:
        out = np.zeros(1, U32)
        for i in range(8):
            if table >> i & 1:
                term = (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
                out = out | term
        return out

    return run


def dot4(first: str, second: str) -> Callable[[Array, Array, Array], Array]:
    """Return ``dp4a``: four products of bytes, added to ``c``."""
    kinds = [np.dtype(np.int8 if t == "s32" else np.uint8) for t in (first, second)]

    def run(a: Array, b: Array, c: Array) -> Array:
        x, y = (
            np.ascontiguousarray(v).view(k).reshape(-1, 4)
            for v, k in zip((a, b), kinds, strict=True)
        )
        return c + (x.astype(np.int32) * y.astype(np.int32)).sum(1).astype(c.dtype)

    return run


def bfind(program: Program, i: Instruction) -> Step:
    """Decode the place of the highest bit, or how far it must move up (``shiftamt``)."""
    fmt, rest = typed(i)
    top = U32(fmt.bits - 1)

    def amount(a: Array) -> Array:
        place = highest_bit(a)
        return np.where(place == U32(0xFFFF_FFFF), place, top - place)

    return program.elementwise(
        i, amount if "shiftamt" in rest else highest_bit, FORMATS["u32"], [fmt]
    )


COUNTS: dict[str, Callable[[Array], Array]] = {"popc": bit_count, "clz": leading_zeros}


def count(program: Program, i: Instruction) -> Step:
    """Decode how many bits are set, or are zero above the highest one."""
    return program.elementwise(i, COUNTS[i.root], FORMATS["u32"], [typed(i)[0]])


def brev(program: Program, i: Instruction) -> Step:
    """Decode the reverse order of bits."""
    fmt, _ = typed(i)
    return program.elementwise(i, reverse, fmt, [fmt])


def bit_field(program: Program, i: Instruction) -> Step:
    """Decode ``bfe`` and ``bfi``."""
    fmt, _ = typed(i)
    u32 = FORMATS["u32"]
    if i.root == "bfe":
        return program.elementwise(i, extract, fmt, [fmt, u32, u32])
    return program.elementwise(i, insert, fmt, [fmt, fmt, u32, u32])


def shf(program: Program, i: Instruction) -> Step:
    """Decode a shift of two registers."""
    u32 = FORMATS["u32"]
    compute = funnel("l" in i.modifiers, "wrap" in i.modifiers)
    return program.elementwise(i, compute, u32, [u32] * 3)


def prmt(program: Program, i: Instruction) -> Step:
    """Decode a permutation of bytes."""
    if i.modifiers != ("b32",):
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    u32, selector = FORMATS["u32"], i.operands[3]
    if isinstance(selector, Immediate) and not selector.value & 0x8888:
        known = permute_by(selector.value)
        return program.elementwise(i, lambda a, b, _: known(a, b), u32, [u32] * 3)
    return program.elementwise(i, permute, u32, [u32] * 3)


def lop3_step(program: Program, i: Instruction) -> Step:
    """Decode a function of three bits."""
    u32, compute = FORMATS["u32"], lop3(literal(i.operands[4], i))
    return program.elementwise(i, lambda a, b, c, _: compute(a, b, c), u32, [u32] * 4)


def dp4a(program: Program, i: Instruction) -> Step:
    """Decode four products of bytes."""
    result = FORMATS["s32" if "s32" in i.modifiers else "u32"]
    u32 = FORMATS["u32"]
    return program.elementwise(i, dot4(*i.modifiers), result, [u32, u32, result])


DECODERS: dict[str, Decoder] = {
    "popc": count,
    "clz": count,
    "brev": brev,
    "bfind": bfind,
    "bfe": bit_field,
    "bfi": bit_field,
    "shf": shf,
    "prmt": prmt,
    "lop3": lop3_step,
    "dp4a": dp4a,
}

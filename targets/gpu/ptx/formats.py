"""Instruction types: how the bits of a register become values of numpy, and the way back.

Registers hold unsigned integers of their width (predicates: booleans). ``decode`` gives an array
to compute with, ``encode`` the bits of a result. Packed types decode to ``[2, lanes]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.rounding import from_bf16, to_bf16, to_f16

Array = npt.NDArray[Any]

STORAGE = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
"""What holds a register of so many bits."""


@dataclass(frozen=True)
class Format:
    """An instruction type: ``kind`` is ``u``, ``s``, ``f``, ``half`` or ``pred``."""

    name: str
    bits: int
    kind: str
    decode: Callable[[Array], Array]
    encode: Callable[[Array], Array]


def plain(name: str, bits: int, kind: str) -> Format:
    """Return a type that numpy has itself."""
    storage = STORAGE[bits]
    dtype = np.dtype(f"{kind}{bits // 8}".replace("s", "i"))
    return Format(name, bits, kind, lambda a: a.view(dtype), lambda a: a.view(storage))


def half(name: str, decode: Callable[[Array], Array], encode: Callable[[Array], Array]) -> Format:
    """Return a type of 16 bits that computes in binary32."""
    return Format(name, 16, "half", decode, encode)


def pair(one: Format) -> Format:
    """Return two of ``one`` in a register of 32 bits, the first of them in the low half."""

    def decode(bits: Array) -> Array:
        return np.stack([one.decode(half_of(bits, 0)), one.decode(half_of(bits, 1))])

    def encode(values: Array) -> Array:
        low, high = one.encode(values[0]), one.encode(values[1])
        return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))

    return Format(f"{one.name}x2", 32, one.kind, decode, encode)


def half_of(bits: Array, which: int) -> Array:
    """Return the low (0) or high (1) half of 32 bits."""
    return (bits >> np.uint32(16 * which)).astype(np.uint16)


F16 = half("f16", lambda a: a.view(np.float16).astype(np.float32), to_f16)
BF16 = half("bf16", from_bf16, to_bf16)
PRED = Format("pred", 1, "pred", lambda a: a, lambda a: a)
INTEGERS = [
    plain(f"{kind}{bits}", bits, "s" if kind == "s" else "u")
    for kind in "bus"
    for bits in (8, 16, 32, 64)
]
FLOATS = [plain("f32", 32, "f"), plain("f64", 64, "f"), plain("tf32", 32, "f")]
PACKED = [pair(F16), pair(BF16), *(pair(f) for f in INTEGERS if f.bits == 16)]
FORMATS = {f.name: f for f in [*INTEGERS, *FLOATS, F16, BF16, *PACKED, PRED]}

"""Tensor-core products (``mma.sync``): fragments to matrices, one product per warp, and back.

Products and their sum are computed in binary64 (integers: exactly) and rounded once to the
accumulator's type. The ISA leaves order and intermediate rounding of float sums open, so results
of a device differ in the last bits. Source: PTX ISA 8.8, 9.7.14.5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import fault, unknown
from tapeout.targets.gpu.ptx.formats import FORMATS
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step, parts
from tapeout.targets.gpu.ptx.rounding import from_bf16, to_f16
from tapeout.targets.gpu.ptx.text import Instruction

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
LANE = np.arange(32)
GROUP, MEMBER = LANE // 4, LANE % 4


@dataclass(frozen=True)
class Element:
    """An operand's element type: its bits, and how words become numbers to multiply."""

    bits: int
    decode: Callable[[Array], Array]


def truncated_tf32(words: Array) -> Array:
    """Return the numbers of TF32: of binary32, the low 13 bits do not count."""
    return (words & np.uint32(0xFFFF_E000)).view(np.float32).astype(np.float64)


ELEMENTS = {
    "f16": Element(16, lambda w: w.view(np.float16).astype(np.float64)),
    "bf16": Element(16, lambda w: from_bf16(w.view(np.uint16)).astype(np.float64)),
    "tf32": Element(32, truncated_tf32),
    # Sums of at most 128 products of 8 bits are far below 2**53.
    "s8": Element(8, lambda w: w.view(np.int8).astype(np.float64)),
    "u8": Element(8, lambda w: w.view(np.uint8).astype(np.float64)),
    "f64": Element(64, lambda w: w.view(np.float64)),
}


def places(m: int, n: int, k: int, per: int) -> tuple[Array, Array, Array]:
    """Return where fragments lie: flat places in ``A [m, k]``, ``B [k, n]`` and ``C [m, n]``.

    Shapes ``[32, elements]``: lane ``4 g + t`` holds, of A, rows ``g`` and ``g + 8`` and columns
    ``t * per ...`` of every stretch of ``4 * per``; of B the same with columns ``g``; of C
    columns ``2 t`` and the next. ``per`` is how many elements a register holds.
    """
    halves = m // 8
    stretches = k // (4 * per)
    a, b, c = list[Array](), list[Array](), list[Array]()
    for stretch in range(stretches):
        column = stretch * 4 * per + MEMBER * per
        for half in range(halves):
            a += [(GROUP + 8 * half) * k + column + e for e in range(per)]
        b += [(column + e) * n + GROUP for e in range(per)]
    for half in range(halves):
        c += [(GROUP + 8 * half) * n + MEMBER * 2 + e for e in range(2)]
    return np.stack(a, 1), np.stack(b, 1), np.stack(c, 1)


def words_of(m: "Machine", slots: list[int]) -> Array:
    """Return registers as ``[warps, 32, registers]``."""
    return np.stack([m.full(s) for s in slots], 1).reshape(-1, 32, len(slots))


def matrix(
    m: "Machine", slots: list[int], element: Element, place: Array, shape: tuple[int, int]
) -> Array:
    """Return the matrices ``[warps, rows, columns]`` that fragments hold.

    A fragment is an operand of many products in a row: what it held is kept until a register of
    it holds another array.
    """
    key, held = (element, shape, *slots), [m.slots[s] for s in slots]
    known = m.fragments.get(key)
    if known is not None and all(a is b for a, b in zip(known[0], held, strict=True)):
        return known[1]
    words = words_of(m, slots)
    out = np.empty((words.shape[0], shape[0] * shape[1]))
    out[:, place.ravel()] = element.decode(words).reshape(words.shape[0], -1)
    m.fragments[key] = held, out.reshape(-1, *shape)
    return m.fragments[key][1]


def wrap(total: Array) -> Array:
    """Return exact integer sums modulo ``2**32``, as bits."""
    return total.astype(np.int64).astype(np.uint32)


def saturate(total: Array) -> Array:
    """Return exact integer sums held to 32 bits, as bits."""
    return np.clip(total, -(2.0**31), 2.0**31 - 1).astype(np.int32).view(np.uint32)


ROUND: dict[str, Callable[[Array], Array]] = {
    "f32": lambda total: total.astype(np.float32).view(np.uint32),
    "f16": lambda total: to_f16(total).view(np.uint32),
    "s32": wrap,
    "f64": lambda total: total.view(np.uint64),
}
READ: dict[str, Callable[[Array], Array]] = {
    "f32": lambda words: words.view(np.float32).astype(np.float64),
    "f16": lambda words: words.view(np.float16).astype(np.float64),
    "s32": lambda words: words.view(np.int32).astype(np.float64),
    "f64": lambda words: words.view(np.float64),
}


def mma(program: Program, i: Instruction) -> Step:
    """Decode ``d = a @ b + c`` of a warp."""
    names = [p for p in i.modifiers if p in FORMATS]
    shape = next((p for p in i.modifiers if p[0] == "m" and "n" in p and "k" in p), "")
    known = {"sync", "aligned", "row", "col", "satfinite", shape, *names}
    if len(names) != 4 or set(i.modifiers) - known or not set(names[1:3]) <= set(ELEMENTS):
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    rows, _, rest = shape[1:].partition("n")
    columns, _, depth = rest.partition("k")
    m_, n_, k_ = int(rows), int(columns), int(depth)
    left, right = ELEMENTS[names[1]], ELEMENTS[names[2]]
    per = max(32 // left.bits, 1)
    in_a, in_b, in_c = places(m_, n_, k_, per)
    result, addend = names[0], names[3]
    bits = FORMATS["b64"] if result == "f64" else FORMATS["b32"]
    writes = [program.writer(p, bits, i) for p in parts(i.operands[0])]
    a, b, c = ([program.slot(p, bits.bits, i) for p in parts(o)] for o in i.operands[1:])
    rounding = saturate if result == "s32" and "satfinite" in i.modifiers else ROUND[result]
    read = READ[addend]
    # Where each element of the result lies among those of its lane, so that C is read in place.
    flat = in_c.ravel()

    def step(m: "Machine") -> None:
        if m.mask is not None and not np.isin(m.mask.reshape(-1, 32).sum(1), (0, 32)).all():
            raise fault("E0906", "mma in a part of a warp", i)
        x = matrix(m, a, left, in_a, (m_, k_))
        y = matrix(m, b, right, in_b, (k_, n_))
        product = (x @ y).reshape(x.shape[0], -1)[:, flat]
        total = product + read(words_of(m, c)).reshape(product.shape)
        words = rounding(total).reshape(-1, 32, len(writes))
        for j, (slot, encode) in enumerate(writes):
            m.put(slot, encode(words[:, :, j].ravel()))

    return step


DECODERS: dict[str, Decoder] = {"mma": mma}

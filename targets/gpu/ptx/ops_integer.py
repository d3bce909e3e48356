"""Integer arithmetic, logic, shifts and carries. Source: PTX ISA 8.8, 9.7.1, 9.7.2, 9.7.8."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, Format
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.text import Instruction

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
U32, U64 = np.uint32, np.uint64


def divide(a: Array, b: Array) -> Array:
    """Return the quotient, rounded towards zero; unspecified where ``b`` is 0."""
    if a.dtype.kind == "u":
        return a // b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def high_product(a: Array, b: Array) -> Array:
    """Return the upper half of the product."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{a.dtype.itemsize * 2}")
        return (a.astype(wide) * b.astype(wide) >> wide.type(bits)).astype(a.dtype)
    low, shift = U64(0xFFFF_FFFF), U64(32)
    x, y = a.view(U64), b.view(U64)
    x0, x1, y0, y1 = x & low, x >> shift, y & low, y >> shift
    middle = (x0 * y0 >> shift) + (x1 * y0 & low) + (x0 * y1 & low)
    high = x1 * y1 + (x1 * y0 >> shift) + (x0 * y1 >> shift) + (middle >> shift)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, U64(0)) - np.where(b < 0, x, U64(0))
    return high.view(a.dtype)


def wide_product(a: Array, b: Array) -> Array:
    """Return the whole product, in twice the bits."""
    wide = np.dtype(f"{a.dtype.kind}{a.dtype.itemsize * 2}")
    return a.astype(wide) * b.astype(wide)


def shift_left(a: Array, n: Array) -> Array:
    """Return ``a << n``: zero from the width on."""
    bits = 8 * a.dtype.itemsize
    return np.where(n < bits, a << np.minimum(n, bits - 1).astype(a.dtype), a.dtype.type(0))


def shift_right(a: Array, n: Array) -> Array:
    """Return ``a >> n``: all sign, or zero, from the width on."""
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(n, bits - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(n < bits, shifted, a.dtype.type(0))


def saturated(compute: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return ``compute`` of 32-bit signed numbers, held to their range."""
    bounds = np.iinfo(np.int32)

    def run(a: Array, b: Array) -> Array:
        exact = compute(a.astype(np.int64), b.astype(np.int64))
        return np.clip(exact, bounds.min, bounds.max).astype(np.int32)

    return run


UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": lambda a: (~a) + a.dtype.type(1),
    "abs": np.abs,
    "not": np.invert,
    "cnot": lambda a: (a == 0).astype(a.dtype),
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul.lo": np.multiply,
    "mul.hi": high_product,
    "mul.wide": wide_product,
    "div": divide,
    "rem": lambda a, b: a - divide(a, b) * b,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "sad": lambda a, b: np.maximum(a, b) - np.minimum(a, b),
}
SHIFTS = {"shl": shift_left, "shr": shift_right}


def typed(instruction: Instruction) -> tuple[Format, set[str]]:
    """Return the instruction's type, which stands last, and the modifiers before it."""
    *rest, name = instruction.modifiers
    if name not in FORMATS:
        raise unknown(instruction, f"the type '{name}'")
    return FORMATS[name], set(rest)


def variant(instruction: Instruction, rest: set[str]) -> str:
    """Return the name with which of the halves of a product are kept."""
    kept = rest & {"lo", "hi", "wide"}
    if rest - kept - {"cc", "sat"} or len(kept) > 1:
        raise unknown(instruction, f"'{'.'.join(instruction.modifiers)}'")
    return ".".join([instruction.root.removesuffix("c"), *kept])


def wider(fmt: Format, name: str) -> Format:
    """Return the result's type: twice as wide for ``wide``."""
    return FORMATS[f"{fmt.name[0]}{2 * fmt.bits}"] if name.endswith("wide") else fmt


def integer(program: Program, i: Instruction) -> Step:
    """Decode what takes integers and gives one of the same type."""
    fmt, rest = typed(i)
    if i.root in UNARY and not rest:
        return program.elementwise(i, UNARY[i.root], fmt, [fmt])
    if i.root in SHIFTS and not rest:
        return program.elementwise(i, SHIFTS[i.root], fmt, [fmt, FORMATS["u32"]])
    if "cc" in rest or i.root in ("addc", "subc", "madc"):
        return carried(program, i, fmt, rest)
    name = variant(i, rest)
    if i.root == "mad":
        product, result = BINARY[name.replace("mad", "mul")], wider(fmt, name)
        return program.elementwise(i, lambda a, b, c: product(a, b) + c, result, [fmt, fmt, result])
    if name not in BINARY:
        raise unknown(i, f"'{name}' of {fmt.name}")
    compute = BINARY[name]
    if "sat" in rest:
        if fmt.name != "s32":
            raise unknown(i, "saturation of this type")
        compute = saturated(compute)
    if i.root == "sad":
        return program.elementwise(i, lambda a, b, c: compute(a, b) + c, fmt, [fmt] * 3)
    return program.elementwise(i, compute, wider(fmt, name), [fmt, fmt])


def carried(program: Program, i: Instruction, fmt: Format, rest: set[str]) -> Step:
    """Decode additions of unsigned parts of a long number, with the carry in a slot of its own.

    The carry of a subtraction is its borrow.
    """
    name = variant(i, rest)
    base = i.root.removesuffix("c")
    unsigned = FORMATS[f"u{fmt.bits}"]
    d, encode = program.writer(i.operands[0], unsigned, i)
    product_of = FORMATS[f"{'s' if fmt.kind == 's' else 'u'}{fmt.bits}"]
    types = [product_of, product_of, unsigned] if base == "mad" else [unsigned, unsigned]
    reads = [program.reader(o, f, i) for o, f in zip(i.operands[1:], types, strict=True)]
    product = BINARY[name.replace("mad", "mul")] if base == "mad" else None
    takes, gives, carry = i.root.endswith("c"), "cc" in rest, program.carry

    def step(m: "Machine") -> None:
        values = [read(m.slots[slot]) for slot, read in reads]
        if product:
            values = [
                product(values[0], values[1]).view(unsigned.decode(values[2]).dtype),
                values[2],
            ]
        a, b = values
        extra = m.slots[carry].astype(a.dtype) if takes else a.dtype.type(0)
        if base == "sub":
            out = a - b - extra
            over = (a < b) | ((a == b) & (extra != 0))
        else:
            out = a + b + extra
            over = (out < a) | ((out == a) & (extra != 0) & (b != 0))
        m.put(d, encode(out))
        if gives:
            m.put(carry, over)

    return step


LOGIC = ("and", "or", "xor", "not")
INTEGER = ("cnot", "shl", "shr", "rem", "sad", "addc", "subc", "madc")
DECODERS: dict[str, Decoder] = {
    **dict.fromkeys((*LOGIC, *INTEGER), integer),
}

"""Integer instructions against Python's own integers, on corners and random bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Lanes = Callable[..., list[Array]]

CORNERS = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, -1, -2, -3, -128]


def samples(bits: int, signed: bool, seed: int = 0) -> Array:
    """Corners, the ends of the range, and random bits: 256 of them."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    ends = [2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1]
    known = np.array([v % 2**bits for v in CORNERS + ends], np.uint64)
    drawn = rng.integers(0, 2**bits - 1, 256 - known.size, np.uint64, endpoint=True)
    return rng.permutation(np.concatenate([known, drawn])).astype(f"u{bits // 8}").view(dtype)


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def wrapped(values: list[int], like: Array) -> Array:
    bits = 8 * like.dtype.itemsize
    return (
        np.array([v % 2**bits for v in values], np.uint64).astype(f"u{bits // 8}").view(like.dtype)
    )


BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul.lo": lambda a, b, n: a * b,
    "mul.hi": lambda a, b, n: a * b >> n,
    "div": lambda a, b, n: quotient(a, b),
    "rem": lambda a, b, n: a - quotient(a, b) * b,
    "min": lambda a, b, n: min(a, b),
    "max": lambda a, b, n: max(a, b),
}


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("opcode", BINARY)
def test_arithmetic(lanes: Lanes, opcode: str, kind: str) -> None:
    bits, signed = int(kind[1:]), kind[0] == "s"
    a, b = samples(bits, signed), samples(bits, signed, 1)
    if opcode in ("div", "rem"):
        b[b == 0] = 5
        a[(b == -1) & (a == -(2 ** (bits - 1)))] = 1
    (x,) = lanes(f"{opcode}.{kind} x, a, b;", {"x": a.dtype}, a=a, b=b)
    exact = [BINARY[opcode](int(p), int(q), bits) for p, q in zip(a, b, strict=True)]
    np.testing.assert_array_equal(x, wrapped(exact, a))


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32"])
def test_products_of_twice_the_width(lanes: Lanes, kind: str) -> None:
    bits, signed = int(kind[1:]), kind[0] == "s"
    a, b = samples(bits, signed), samples(bits, signed, 1)
    wide = a.dtype.str[1] + str(bits // 4)
    c = samples(2 * bits, signed, 2)
    code = f"mul.wide.{kind} x, a, b; mad.wide.{kind} y, a, b, c;"
    x, y = lanes(code, {"x": wide, "y": wide}, a=a, b=b, c=c)
    np.testing.assert_array_equal(x, a.astype(wide) * b.astype(wide))
    np.testing.assert_array_equal(y, a.astype(wide) * b.astype(wide) + c)


def test_shifts_beyond_the_width_are_clamped(lanes: Lanes) -> None:
    a, n = samples(32, True), np.arange(256, dtype=np.uint32) % 70
    code = "shl.b32 x, a, b; shr.u32 y, a, b; shr.s32 z, a, b;"
    x, y, z = lanes(code, {"x": np.uint32, "y": np.uint32, "z": np.int32}, a=a, b=n)
    bits = [int(v) & 0xFFFF_FFFF for v in a]
    np.testing.assert_array_equal(
        x, [(v << int(k)) & 0xFFFF_FFFF for v, k in zip(bits, n, strict=True)]
    )
    np.testing.assert_array_equal(y, [v >> int(k) for v, k in zip(bits, n, strict=True)])
    np.testing.assert_array_equal(z, [int(v) >> int(k) for v, k in zip(a, n, strict=True)])


@pytest.mark.parametrize("mode", ["wrap", "clamp"])
def test_funnel_shifts(lanes: Lanes, mode: str) -> None:
    a, b, n = samples(32, False), samples(32, False, 1), np.arange(256, dtype=np.uint32) % 40
    code = f"shf.l.{mode}.b32 x, a, b, c; shf.r.{mode}.b32 y, a, b, c;"
    x, y = lanes(code, {"x": np.uint32, "y": np.uint32}, a=a, b=b, c=n)
    for low, high, count, left, right in zip(a, b, n, x, y, strict=True):
        k = int(count) & 31 if mode == "wrap" else min(int(count), 32)
        whole = int(high) << 32 | int(low)
        assert int(left) == (whole << k >> 32) & 0xFFFF_FFFF
        assert int(right) == (whole >> k) & 0xFFFF_FFFF


def field(a: int, start: int, length: int, bits: int, signed: bool) -> int:
    """PTX ISA 9.7.1.21, as its pseudocode has it."""
    top = bits - 1
    sign_at = min(start + length - 1, top)
    sign = (a >> sign_at) & 1 if signed and length else 0
    out = 0
    for i in range(bits):
        bit = (a >> (start + i)) & 1 if i < length and start + i <= top else sign
        out |= bit << i
    return out


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_bit_fields_are_taken(lanes: Lanes, kind: str) -> None:
    bits = int(kind[1:])
    a = samples(bits, False)
    rng = np.random.default_rng(3)
    start, length = (rng.integers(0, bits + 6, 256).astype(np.uint32) for _ in range(2))
    (x,) = lanes(f"bfe.{kind} x, a, b, c;", {"x": a.dtype}, a=a, b=start, c=length)
    args = zip(a, start, length, strict=True)
    np.testing.assert_array_equal(
        x, [field(int(v), int(s), int(n), bits, kind[0] == "s") for v, s, n in args]
    )


def test_bit_fields_are_put(lanes: Lanes) -> None:
    a, b = samples(32, False), samples(32, False, 1)
    rng = np.random.default_rng(3)
    start, length = (rng.integers(0, 38, 256).astype(np.uint32) for _ in range(2))
    (x,) = lanes("bfi.b32 x, a, b, c, d;", {"x": np.uint32}, a=a, b=b, c=start, d=length)
    for p, q, s, n, out in zip(a, b, start, length, x, strict=True):
        mask = ((1 << int(n)) - 1) << int(s) & 0xFFFF_FFFF
        assert int(out) == (int(q) & ~mask) | (int(p) << int(s) & mask)


@pytest.mark.parametrize("bits", [32, 64])
def test_bits_are_counted_and_found(lanes: Lanes, bits: int) -> None:
    a = samples(bits, False)
    code = f"""popc.b{bits} x, a; clz.b{bits} y, a; brev.b{bits} b, a; bfind.u{bits} z, a;
        bfind.s{bits} v, a; bfind.shiftamt.u{bits} w, a;"""
    outputs = {n: np.uint32 for n in "xyzvw"}
    x, y, z, v, w, b = lanes(code, {**outputs, "b": a.dtype}, a=a)
    for value, ones, zeros, top, signed, amount, back in zip(a, x, y, z, v, w, b, strict=True):
        n = int(value)
        length = n.bit_length()
        assert (ones, zeros) == (n.bit_count(), bits - length)
        assert int(back) == int(f"{n:0{bits}b}"[::-1], 2)
        assert top == (length - 1) % 2**32
        other = n ^ (2**bits - 1) if n >> (bits - 1) else n
        assert signed == (other.bit_length() - 1) % 2**32
        assert amount == (bits - length if n else 2**32 - 1)


@pytest.mark.parametrize(
    "selector", [0x3210, 0x5410, 0x7632, 0x0123, 0x6420, 0x8888, 0xBA98, 0x4444]
)
def test_bytes_are_permuted(lanes: Lanes, selector: int) -> None:
    a, b = samples(32, False), samples(32, False, 1)
    s = np.full(256, selector, np.uint32)
    code = f"prmt.b32 x, a, b, {selector}; prmt.b32 y, a, b, c;"
    x, y = lanes(code, {"x": np.uint32, "y": np.uint32}, a=a, b=b, c=s)
    for p, q, out in zip(a, b, x, strict=True):
        octets = (int(q) << 32 | int(p)).to_bytes(8, "little")
        nibbles = [selector >> 4 * i & 15 for i in range(4)]
        chosen = [octets[n & 7] for n in nibbles]
        signs = [255 * (c >> 7) if n & 8 else c for c, n in zip(chosen, nibbles, strict=True)]
        assert int(out) == int.from_bytes(bytes(signs), "little")
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("table", [0x00, 0xEA, 0x96, 0xCA, 0xF8, 0x6A, 0xFF])
def test_functions_of_three_bits(lanes: Lanes, table: int) -> None:
    a, b, c = (samples(32, False, k) for k in range(3))
    (x,) = lanes(f"lop3.b32 x, a, b, c, {table};", {"x": np.uint32}, a=a, b=b, c=c)
    for p, q, r, out in zip(a, b, c, x, strict=True):
        bits = [
            table >> ((int(p) >> i & 1) * 4 + (int(q) >> i & 1) * 2 + (int(r) >> i & 1)) & 1
            for i in range(32)
        ]
        assert int(out) == sum(bit << i for i, bit in enumerate(bits))


@pytest.mark.parametrize(("first", "second"), [("s32", "s32"), ("u32", "u32"), ("u32", "s32")])
def test_products_of_four_bytes(lanes: Lanes, first: str, second: str) -> None:
    a, b, c = (samples(32, False, k) for k in range(3))
    (x,) = lanes(f"dp4a.{first}.{second} x, a, b, c;", {"x": np.uint32}, a=a, b=b, c=c)
    p = a.view(np.int8 if first == "s32" else np.uint8).reshape(-1, 4).astype(np.int64)
    q = b.view(np.int8 if second == "s32" else np.uint8).reshape(-1, 4).astype(np.int64)
    np.testing.assert_array_equal(x, ((p * q).sum(1) + c).astype(np.uint32))


def test_carries_make_long_numbers(lanes: Lanes) -> None:
    a, b = samples(64, False), samples(64, False, 1)
    code = """.reg .b32 a0, a1, b0, b1, c0, c1; mov.b64 {a0, a1}, a; mov.b64 {b0, b1}, b;
        add.cc.u32 c0, a0, b0; addc.u32 c1, a1, b1; mov.b64 x, {c0, c1};
        sub.cc.u32 c0, a0, b0; subc.u32 c1, a1, b1; mov.b64 y, {c0, c1};
        mul.lo.u32 c0, a0, b0; mul.hi.u32 c1, a0, b0; mad.lo.cc.u32 c0, a0, b1, c0;
        madc.hi.u32 c1, a0, b1, 0; mov.b64 z, {c0, c1};"""
    x, y, z = lanes(code, {n: np.uint64 for n in "xyz"}, a=a, b=b)
    np.testing.assert_array_equal(x, a + b)
    np.testing.assert_array_equal(y, a - b)
    for p, q, out in zip(a, b, z, strict=True):
        a0, b0, b1 = int(p) & 0xFFFF_FFFF, int(q) & 0xFFFF_FFFF, int(q) >> 32
        low = (a0 * b0 & 0xFFFF_FFFF) + (a0 * b1 & 0xFFFF_FFFF)
        high = (a0 * b1 >> 32) + (low >> 32)
        assert int(out) == (low & 0xFFFF_FFFF) | (high & 0xFFFF_FFFF) << 32


def test_comparisons_and_choices(lanes: Lanes) -> None:
    a, b = samples(32, True), samples(32, True, 1)
    a[::3] = b[::3]
    code = """setp.lt.s32 p|q, a, b; selp.b32 x, 1, 0, p; selp.b32 y, 1, 0, q;
        setp.lo.and.u32 q, a, b, !p; selp.b32 z, a, b, q; not.b32 v, a; abs.s32 w, a;"""
    x, y, z, v, w = lanes(code, {n: np.int32 for n in "xyzvw"}, a=a, b=b)
    np.testing.assert_array_equal(x, a < b)
    np.testing.assert_array_equal(y, a >= b)
    chosen = (a.view(np.uint32) < b.view(np.uint32)) & ~(a < b)
    np.testing.assert_array_equal(z, np.where(chosen, a, b))
    np.testing.assert_array_equal(v, ~a)
    np.testing.assert_array_equal(w, np.abs(a))

"""Integer division, remainder, power and shifts, with nothing left undefined."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

INTS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]
BINARY = ["div", "trunc_mod", "floordiv", "floor_mod", "pow", "shift_left", "shift_right"]
UNARY = ["abs", "sign"]
KERNELS = {f"{op}_{t}": (f"{t},{t}->{t}", f"v_{op}_{t}(a, b)") for op in BINARY for t in INTS} | {
    f"{op}_{t}": (f"{t}->{t}", f"v_{op}_{t}(a)") for op in UNARY for t in INTS
}
KERNELS.update(
    {
        f"s_{op}_{t}": (
            f"{t},{t}->{t}",
            f"const {t} *p = in[0], *q = in[1];"
            f"for (i64 i = 0; i < n; i++) (({t} *)out)[i] = s_{op}_{t}(p[i], q[i]);",
        )
        for op in BINARY
        for t in INTS
    }
)


def divide(a: int, b: int) -> int:
    """Toward zero; 0 for a zero divisor."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def power(a: int, b: int, bits: int) -> int:
    if b >= 0:
        return pow(a, b, 1 << bits)
    return {1: 1, -1: 1 if b % 2 == 0 else -1}.get(a, 0)


def shift(a: int, b: int, bits: int, left: bool) -> int:
    return 0 if not 0 <= b < bits else a << b if left else a >> b


REFERENCE: dict[str, Callable[[int, int, int], int]] = {
    "div": lambda a, b, bits: divide(a, b),
    "trunc_mod": lambda a, b, bits: a - divide(a, b) * b if b else 0,
    "floordiv": lambda a, b, bits: a // b if b else 0,
    "floor_mod": lambda a, b, bits: a % b if b else 0,
    "pow": power,
    "shift_left": lambda a, b, bits: shift(a, b, bits, left=True),
    "shift_right": lambda a, b, bits: shift(a, b, bits, left=False),
}


def dtype_of(t: str) -> np.dtype[Any]:
    return np.dtype(f"<{t[0]}{int(t[1:]) // 8}")


def operands(t: str) -> tuple[Array, Array]:
    """Extremes against each other, small divisors and counts, multiples and their neighbours."""
    info, rng = np.iinfo(dtype_of(t)), np.random.default_rng(3)
    edges = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 8, 31, 33, 64, 100]
    edges += [-1, -2, -3, -7] if info.min < 0 else [info.max // 2, info.max // 2 + 1]
    left, right = (
        [int(v) for v in grid.ravel()] for grid in np.meshgrid(*[np.array(edges, object)] * 2)
    )
    for _ in range(300):
        a = int(rng.integers(info.min, info.max, endpoint=True, dtype=dtype_of(t)))
        b = int(rng.integers(info.min, info.max, endpoint=True, dtype=dtype_of(t)))
        b >>= int(rng.integers(0, info.bits))
        near = divide(a, b) * b
        left += [a, near, max(near - 1, info.min), min(near + 1, info.max)]
        right += [b, b, b, b]
    return np.array(left, dtype_of(t)), np.array(right, dtype_of(t))


def wrapped(values: list[int], t: str) -> Array:
    bits = int(t[1:])
    unsigned = np.array([value % (1 << bits) for value in values], f"<u{bits // 8}")
    return unsigned.view(dtype_of(t))


@pytest.mark.parametrize("t", INTS)
@pytest.mark.parametrize("op", BINARY)
def test_every_operand_pair_has_a_value(build: Build, isa: str, op: str, t: str) -> None:
    run = build(isa, "vint.h", KERNELS)
    a, b = operands(t)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    want = wrapped([REFERENCE[op](x, y, int(t[1:])) for x, y in pairs], t)
    np.testing.assert_array_equal(run(f"{op}_{t}", a, b), want)
    np.testing.assert_array_equal(run(f"s_{op}_{t}", a, b), want)


@pytest.mark.parametrize("t", INTS)
def test_magnitude_and_sign(build: Build, isa: str, t: str) -> None:
    run, (a, _) = build(isa, "vint.h", KERNELS), operands(t)
    np.testing.assert_array_equal(run(f"abs_{t}", a), np.abs(a))
    np.testing.assert_array_equal(run(f"sign_{t}", a), np.sign(a))

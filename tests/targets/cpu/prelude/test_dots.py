"""Sums of four products of bytes: exact on every instruction set, extremes and wrapping too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

ISAS = ("avx512", "avx512vnni", "avx2", "neon", "neondot", "generic")
TYPES = {"i8": "<i1", "u8": "u1"}
PAIRS = [(a, b) for a in TYPES for b in TYPES]
QUADS = "v_load_quads((const u8 *)in[{}] + 4 * i)"
KERNELS = {
    f"{a}_{b}": (
        f"{a},{b},i32->i32",
        "for (i64 i = 0; i < n; i += TO_LANES) v_store_i32((i32 *)out + i, "
        f"v_dot4_{a}_{b}({QUADS.format(0)}, {QUADS.format(1)}, "
        "v_load_i32((const i32 *)in[2] + i)));",
    )
    for a, b in PAIRS
} | {
    "quads": (
        "u8->i32",
        "for (i64 i = 0; i < n; i++) ((i32 *)out)[i] = to_load_quad_n((const u8 *)in[0], i);",
    )
}


def bytes_of(t: str, count: int, rng: np.random.Generator) -> Array:
    """Random bytes, with every fourth run of four at an extreme."""
    info = np.iinfo(TYPES[t])
    values = rng.integers(info.min, info.max, count, endpoint=True)
    values[0:16] = info.min
    values[16:32] = info.max
    values[32:48] = [info.min, info.max] * 8
    return values.astype(TYPES[t])


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_dot_of_bytes_is_exact(build: Build, isa: str, a: str, b: str) -> None:
    run, rng = build(isa, "vec.h", KERNELS), np.random.default_rng(4)
    x, y = bytes_of(a, 4096, rng), bytes_of(b, 4096, rng)[::-1].copy()
    y[:64] = bytes_of(b, 4096, rng)[:64]
    c = rng.integers(-(2**31), 2**31, 1024).astype("<i4")
    products = x.astype(np.int64) * y.astype(np.int64)
    want = (c + products.reshape(-1, 4).sum(axis=1)).astype("<i4")
    np.testing.assert_array_equal(run(f"{a}_{b}", x, y, c, n=1024), want)


def test_a_cut_quad_reads_what_is_there(build: Build, isa: str) -> None:
    run = build(isa, "vec.h", KERNELS)
    want = np.array([0, 1, 0x0201, 0x030201, 0x04030201], "<i4")
    np.testing.assert_array_equal(run("quads", np.arange(1, 5, dtype="u1"), n=5), want)

"""Sums of two products of bf16: the bits of each instruction, and of what stands in for it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

ISAS = ("avx512", "avx512bf16", "neonbf16")
PAIR = "v_load_quads((const u16 *)in[{}] + 2 * i)"
KERNELS = {
    "dot2": (
        "bf16,bf16,f32->f32",
        "for (i64 i = 0; i < n; i += TO_LANES) v_store_f32((f32 *)out + i, "
        f"v_dot2_bf16_bf16({PAIR.format(0)}, {PAIR.format(1)}, "
        "v_load_f32((const f32 *)in[2] + i)));",
    )
}
COUNT = 1 << 17


def operands(count: int) -> tuple[Array, Array, Array]:
    """Normal numbers; any bits at all, NaN aside; and sums near the least normal number."""
    random = np.random.default_rng(6)
    bits = random.integers(0, 1 << 32, 3 * count, dtype=np.uint32).reshape(3, count)
    halves = [(b >> 16).astype(np.uint32) << 16 for b in bits[:2]]
    a, b = (np.ascontiguousarray(h).view(np.float32) for h in halves)
    c = bits[2].view(np.float32).copy()
    plain, small = slice(0, count // 4), slice(count // 4, count // 2)
    for x in (a, b, c):
        x[plain] = random.standard_normal(count // 4)
        x[small] = random.choice([-1, 1], count // 4) * 2.0 ** random.integers(-66, -60, count // 4)
        x[small] *= 1 + random.integers(0, 128, count // 4) / 128
        x[np.isnan(x)] = 1
    c[small] *= np.float32(2.0**-62)
    a, b = (x.astype(ml_dtypes.bfloat16).astype(np.float32) for x in (a, b))
    return a, b, c


def test_every_bit_is_that_of_the_instruction(
    build: Build, isa: str, orders: SimpleNamespace
) -> None:
    run = build(isa, "half.h", KERNELS)
    (a, b, _), (_, _, c) = operands(2 * COUNT), operands(COUNT)
    narrow = [x.astype(ml_dtypes.bfloat16).view(np.uint16) for x in (a, b)]
    have = run("dot2", *narrow, c, n=COUNT)
    step = orders.arm_pair if isa == "neonbf16" else orders.x86_pair
    want = step(*(x.reshape(-1, 2).T for x in (a, b)), c)
    assert np.array_equal(np.isnan(have), np.isnan(want))
    real = ~np.isnan(want)
    np.testing.assert_array_equal(have[real].view(np.uint32), want[real].view(np.uint32))


def test_the_instruction_builds_where_it_does_not_run(build: Build) -> None:
    build("avx512bf16", "half.h", KERNELS)

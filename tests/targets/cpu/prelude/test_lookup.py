"""Sums of look-ups: exact on every instruction set, at every number of bits and at the extremes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

SIZES = [(1, 8), (1, 64), (1, 18), (2, 16), (2, 6), (3, 8), (4, 8), (5, 2), (8, 8)]
"""Bits and steps: most that 16 bits sum, and blocks that are not whole."""
KERNELS = {
    f"{bits}_{steps}": (
        "u8,u8,i32->i32",
        "v_i32 sums[64 / TO_LANES];\n"
        "for (int q = 0; q < 64 / TO_LANES; q++)\n"
        "  sums[q] = v_load_i32((const i32 *)in[2] + q * TO_LANES);\n"
        f"v_look_up(sums, in[0], in[1], {steps}, {bits}, {bits % 2}, 0);\n"
        "for (int q = 0; q < 64 / TO_LANES; q++)\n"
        "  v_store_i32((i32 *)out + q * TO_LANES, sums[q]);",
    )
    for bits, steps in SIZES
}


def sums(tables: Array, codes: Array, start: Array, up: int) -> Array:
    """What ``tile.look_up`` says."""
    entries = tables[:, 0].astype(np.int64) + 32 * tables[:, 1].astype(np.int64)
    total = start.astype(np.int64)
    for bit, plane in enumerate(codes):
        for step, table in enumerate(entries):
            total = total + (table[plane[step // 2] >> 4 * (step % 2) & 15] << bit + up)
    return total.astype(np.int32)


@pytest.mark.parametrize(("bits", "steps"), SIZES)
@pytest.mark.parametrize("most", [False, True])
def test_what_is_looked_up_is_summed_exactly(
    build: Build, isa: str, bits: int, steps: int, most: bool
) -> None:
    check(build(isa, "vec.h", KERNELS), bits, steps, most)


def test_look_ups_pass_the_sanitizers(build: Build) -> None:
    # They do not work under user-mode emulation; an instruction set that runs anywhere is plain C.
    check(build("generic", "vec.h", KERNELS, sanitize=True), 5, 2, True)
    check(build("generic", "vec.h", KERNELS, sanitize=True), 3, 8, True)


def check(run: Callable[..., Array], bits: int, steps: int, most: bool) -> None:
    """Random tables and codes, or tables of the greatest entries."""
    rng = np.random.default_rng(7)
    tables = rng.integers(31 if most else 0, 32, (steps, 2, 16)).astype("u1")
    codes = rng.integers(0, 256, (bits, steps // 2, 64)).astype("u1")
    start = rng.integers(-(2**31), 2**31, 64).astype("<i4")
    found = run(f"{bits}_{steps}", tables, codes, start, n=64)
    np.testing.assert_array_equal(found, sums(tables, codes, start, bits % 2))

"""Squares of vectors turned, and lines of bytes interleaved, on every instruction set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

ISAS = ("avx512", "avx2", "neon", "generic")
LANES = {"avx512": 16, "avx2": 8, "neon": 4, "generic": 4}
TYPES = {"u8": "u1", "i16": "<i2", "f32": "<f4", "i64": "<i8"}
TURN = (
    "v_{t} x[TO_LANES]; (void)n;"
    "for (int r = 0; r < TO_LANES; r++) x[r] = v_load_{t}((const {t} *)in[0] + r * TO_LANES);"
    "v_transpose_{t}(x);"
    "for (int r = 0; r < TO_LANES; r++) v_store_{t}(({t} *)out + r * TO_LANES, x[r]);"
)
KERNELS = {t: (f"{t}->{t}", TURN.format(t=t)) for t in TYPES} | {
    "interleave": (
        "u8->u8",
        "v_i32 x[4]; (void)n;"
        "for (int r = 0; r < 4; r++) x[r] = v_load_quads((const u8 *)in[0] + 4 * TO_LANES * r);"
        "v_interleave(x);"
        "for (int r = 0; r < 4; r++) v_store_i32((i32 *)out + TO_LANES * r, x[r]);",
    )
}


@pytest.mark.parametrize("t", TYPES)
def test_a_square_is_turned(build: Build, isa: str, t: str) -> None:
    run, lanes = build(isa, "vec.h", KERNELS), LANES[isa]
    x = np.arange(lanes * lanes).astype(TYPES[t])
    turned = run(t, x, n=lanes * lanes)
    np.testing.assert_array_equal(turned, x.reshape(lanes, lanes).T.reshape(-1))


def test_lines_are_interleaved_as_the_tile_level_says(build: Build, isa: str) -> None:
    run, lanes = build(isa, "vec.h", KERNELS), LANES[isa]
    x = np.arange(16 * lanes).astype("u1")
    have = run("interleave", x, n=16 * lanes).reshape(4 * lanes, 4)
    c = np.arange(4 * lanes)
    order = 16 * (c % lanes // 4) + 4 * (c // lanes) + c % 4
    np.testing.assert_array_equal(have, x.reshape(4, 4 * lanes)[:, order].T)

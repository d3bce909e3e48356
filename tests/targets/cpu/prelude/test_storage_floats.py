"""Floats of 8 and 16 bits in memory, every code of them, against ml_dtypes."""

from collections.abc import Callable
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

FORMATS: dict[str, Any] = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8e4m3fn": ml_dtypes.float8_e4m3fn,
    "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
EIGHT = [name for name in FORMATS if name.startswith("f8")]
KERNELS = {f"load_{f}": (f"{f}->f32", "a") for f in FORMATS}
KERNELS.update({f"store_{f}": (f"f32->{f}", "a") for f in FORMATS})
KERNELS.update(
    {
        f"{store}_one_{f}": (
            f"f32->{f}",
            f"for (i64 i = 0; i < n; i++) (({f} *)out)[i] = "
            f"s_{f}_from_f32{suffix}(((const f32 *)in[0])[i]);",
        )
        for f in FORMATS
        for store, suffix in (("store", ""), ("store_sat", "_sat"))[: 1 + f.startswith("f8")]
    }
)
KERNELS.update(
    {
        f"load_one_{f}": (
            f"{f}->f32",
            "for (i64 i = 0; i < n; i++) ((f32 *)out)[i] = "
            f"s_f32_from_{f}(((const {f} *)in[0])[i]);",
        )
        for f in FORMATS
    }
)
KERNELS.update({f"round_{f}": ("f32->f32", f"v_round_to_{f}(a)") for f in FORMATS})
KERNELS.update({f"round_sat_{f}": ("f32->f32", f"v_round_to_{f}_sat(a)") for f in FORMATS})
KERNELS.update(
    {f"whole_{f}": (f"{f}->{f}", f"v_store_{f}(out, v_load_{f}(in[0]));") for f in FORMATS}
)
KERNELS.update(
    {
        f"strided_{f}": (
            f"{f}->{f}",
            f"v_store_strided_{f}(out, 2, v_gather_{f}(in[0], 3)); (({f} *)out)[1] = 1;",
        )
        for f in FORMATS
    }
)
KERNELS.update(
    {
        f"sat_{f}": (
            f"f32->{f}",
            "for (i64 i = 0; i < n; i += TO_LANES) "
            f"v_store_sat_n_{f}(({f} *)out + i, v_load_n_f32((f32 *)in[0] + i, n - i), n - i);",
        )
        for f in EIGHT
    }
)


def codes(f: str) -> Array:
    unsigned: np.dtype[Any] = np.dtype(f"<u{np.dtype(FORMATS[f]).itemsize}")
    return np.arange(2 ** (8 * unsigned.itemsize), dtype=unsigned)


def wide(f: str, bits: Array) -> Array:
    with np.errstate(invalid="ignore"):
        small = cast(Array, bits.view(FORMATS[f]))
        return small.astype(np.float32)


def floats_around(f: str) -> Array:
    """Every value of ``f``, the ties between neighbours, and the floats next to all of these."""
    every = wide(f, codes(f))
    exact = np.unique(every[np.isfinite(every)]).astype(np.float64)
    top = exact[-1]
    ties = np.concatenate([(exact[1:] + exact[:-1]) / 2, [top * 1.0625, top * 1.125, top * 1.25]])
    with np.errstate(over="ignore"):
        points = np.concatenate([exact, ties, -ties]).astype(np.float32)
    patterns = np.arange(0, 2**32, 40_009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    around = [np.nextafter(points, np.float32(side)) for side in (-np.inf, np.inf)]
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    return np.concatenate([points, *around, patterns, special])


@pytest.mark.parametrize("f", FORMATS)
def test_every_code_widens_exactly(build: Build, isa: str, f: str) -> None:
    got = build(isa, "half.h", KERNELS)(f"load_{f}", codes(f))
    want = wide(f, codes(f))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("f", FORMATS)
def test_floats_round_once_to_nearest_even(build: Build, isa: str, f: str) -> None:
    x = floats_around(f)
    got = build(isa, "half.h", KERNELS)(f"store_{f}", x)
    with np.errstate(all="ignore"):
        want = x.astype(FORMATS[f])
    nan = np.isnan(want.astype(np.float32))
    np.testing.assert_array_equal(got[~nan], want.view(got.dtype)[~nan])
    if f != "f16":  # the payload of an f16 NaN is the hardware's
        np.testing.assert_array_equal(got[nan], want.view(got.dtype)[nan])
    np.testing.assert_array_equal(np.isnan(wide(f, got)), nan)
    np.testing.assert_array_equal(np.signbit(wide(f, got)), np.signbit(want.astype(np.float32)))


@pytest.mark.parametrize("f", EIGHT)
def test_saturating_stores_end_at_the_largest_value(build: Build, isa: str, f: str) -> None:
    x = floats_around(f)
    run = build(isa, "half.h", KERNELS)
    got = run(f"sat_{f}", x)
    finite = wide(f, codes(f))
    top = finite[np.isfinite(finite)].max()
    with np.errstate(invalid="ignore"):
        want = np.clip(x, -top, top).astype(FORMATS[f])
    np.testing.assert_array_equal(got, want.view(np.uint8))
    some = x[::101]
    np.testing.assert_array_equal(run(f"store_sat_one_{f}", some), run(f"sat_{f}", some))


@pytest.mark.parametrize("f", FORMATS)
def test_whole_strided_and_single_agree(build: Build, isa: str, lanes: int, f: str) -> None:
    run = build(isa, "half.h", KERNELS)
    x = floats_around(f)[::211]
    stored = run(f"store_{f}", x)
    np.testing.assert_array_equal(run(f"store_one_{f}", x), stored)
    np.testing.assert_array_equal(run(f"load_one_{f}", stored), wide(f, stored))
    np.testing.assert_array_equal(run(f"round_{f}", x), wide(f, stored))
    saturated = wide(f, run(f"sat_{f}", x)) if f in EIGHT else wide(f, stored)
    np.testing.assert_array_equal(run(f"round_sat_{f}", x), saturated)
    bits = codes(f)[1 : 1 + 3 * lanes - 2]
    np.testing.assert_array_equal(run(f"whole_{f}", bits[:lanes], size=lanes), bits[:lanes])
    got = run(f"strided_{f}", bits, size=2 * lanes - 1)
    np.testing.assert_array_equal(got[::2], bits[::3])
    np.testing.assert_array_equal(got[1::2], [1] + [0] * (lanes - 2))

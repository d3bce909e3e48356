"""Conversions between element types against numpy, and saturating ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

INTS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]
TYPES = [*INTS, "f32", "f64"]
NARROW = ["i8", "u8", "i16", "u16"]
KERNELS = {f"{s}_{t}": (f"{s}->{t}", f"v_cvt_{s}_{t}(a)") for s in TYPES for t in TYPES}
KERNELS.update({f"{t}_bool": (f"{t}->u8", f"v_cvt_{t}_bool(a)") for t in TYPES})
KERNELS.update(
    {f"sat_{s}_{t}": (f"{s}->{t}", f"v_sat_{s}_{t}(a)") for s in ("i32", "f32") for t in NARROW}
)
KERNELS.update({f"clip_f32_{t}": (f"f32->{t}", f"v_clip_f32_{t}(a)") for t in NARROW})


def dtype_of(t: str) -> np.dtype[Any]:
    return np.dtype(f"<{t[0]}{int(t[1:]) // 8}")


def integers(t: str) -> Array:
    """All values of 8 and 16 bits; of the wider types, the extremes and every magnitude."""
    dtype, info = dtype_of(t), np.iinfo(dtype_of(t))
    if info.bits <= 16:
        return np.arange(info.min, info.max + 1).astype(dtype)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**64, 4096, np.uint64) >> rng.integers(0, 64, 4096, np.uint64)
    return np.concatenate([bits.astype(dtype), np.array([info.min, info.max, 0, 1], dtype)])


def floats_inside(s: str, t: str) -> Array:
    """Floats of type ``s`` whose whole part fits ``t``, fractions among them."""
    info = np.iinfo(dtype_of(t))
    rng = np.random.default_rng(2)
    top = float(info.max) * (1 - 2.0**-20) if info.bits > 16 else info.max + 0.99
    magnitude = np.exp2(rng.uniform(-3, np.log2(top), 4000))
    sign = rng.choice([-1, 1], 4000) if info.min < 0 else 1
    edges = [0.0, -0.0, 0.5, -0.5, 0.99, -0.99, 1.5, 2.5, top]
    return np.concatenate([magnitude * sign, edges]).astype(dtype_of(s))


@pytest.mark.parametrize("s", INTS)
def test_integers_convert_as_numpy_does(build: Build, isa: str, s: str) -> None:
    run, x = build(isa, "cvt.h", KERNELS), integers(s)
    for t in TYPES:
        np.testing.assert_array_equal(run(f"{s}_{t}", x), x.astype(dtype_of(t)), err_msg=t)
    np.testing.assert_array_equal(run(f"{s}_bool", x), x != 0)


@pytest.mark.parametrize("s", ["f32", "f64"])
def test_floats_cut_toward_zero(build: Build, isa: str, s: str) -> None:
    run = build(isa, "cvt.h", KERNELS)
    for t in INTS:
        x = floats_inside(s, t)
        np.testing.assert_array_equal(run(f"{s}_{t}", x), x.astype(dtype_of(t)), err_msg=t)


def test_floats_to_narrow_integers_wrap_through_32_bits(build: Build, isa: str) -> None:
    run = build(isa, "cvt.h", KERNELS)
    x = np.linspace(-100_000, 100_000, 5000)
    for s in ("f32", "f64"):
        source = x.astype(dtype_of(s))
        for t in NARROW:
            want = source.astype(np.int32).astype(dtype_of(t))
            np.testing.assert_array_equal(run(f"{s}_{t}", source), want)


def test_floats_convert_to_floats_and_bools(build: Build, isa: str) -> None:
    run = build(isa, "cvt.h", KERNELS)
    x = np.array([0.0, -0.0, np.nan, np.inf, 1e-45, 1e-300, 1e300, 1 + 2.0**-24, -3.7], "<f8")
    with np.errstate(over="ignore"):
        narrow = x.astype("<f4")
        np.testing.assert_array_equal(run("f64_f32", x), narrow)
        np.testing.assert_array_equal(run("f32_f64", narrow), narrow.astype("<f8"))
        np.testing.assert_array_equal(run("f32_bool", narrow), narrow != 0)
    np.testing.assert_array_equal(run("f64_bool", x), x != 0)
    np.testing.assert_array_equal(run("f64_f64", x), x)


@pytest.mark.parametrize("t", NARROW)
def test_saturation_rounds_half_to_even_and_clamps(build: Build, isa: str, t: str) -> None:
    run, info = build(isa, "cvt.h", KERNELS), np.iinfo(dtype_of(t))
    x = np.arange(-70_000, 70_000, dtype=np.float32) * np.float32(0.5)
    x = np.concatenate([x, x * 4, np.array([1e30, -1e30, np.inf, -np.inf], np.float32)])
    want = np.clip(np.rint(x), info.min, info.max).astype(dtype_of(t))
    np.testing.assert_array_equal(run(f"sat_f32_{t}", x), want)
    cut = np.clip(np.trunc(x), info.min, info.max).astype(dtype_of(t))
    np.testing.assert_array_equal(run(f"clip_f32_{t}", x), cut)
    for how in ("sat", "clip"):
        lowest = run(f"{how}_f32_{t}", np.array([np.nan], np.float32))
        assert lowest[0] == info.min
    whole = np.concatenate([np.arange(-70_000, 70_000), [2**31 - 1, -(2**31)]]).astype(np.int32)
    want = np.clip(whole, info.min, info.max).astype(dtype_of(t))
    np.testing.assert_array_equal(run(f"sat_i32_{t}", whole), want)

"""Conversions between types: rounding, ranges, NaN, and registers wider than the type."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Lanes = Callable[..., list[Array]]
BF16 = np.dtype(ml_dtypes.bfloat16)

SPECIAL = [0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e10, -1e10, 1e20, -1e20, np.inf, -np.inf, np.nan]


def floats() -> Array:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal(384 - len(SPECIAL)) * 10.0 ** rng.integers(
        -8, 10, 384 - len(SPECIAL)
    )
    return np.concatenate([SPECIAL, drawn]).astype(np.float32)


def integers(dtype: Any) -> Array:
    info = np.iinfo(dtype)
    drawn = np.random.default_rng(0).integers(info.min, info.max, 252, dtype, endpoint=True)
    return np.concatenate([np.array([0, 1, info.min, info.max], dtype), drawn])


ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_floats_to_integers_stay_in_range(lanes: Lanes, kind: str, mode: str) -> None:
    a = floats()
    dtype = np.dtype(f"{'i' if kind[0] == 's' else 'u'}{int(kind[1:]) // 8}")
    (x,) = lanes(f"cvt.{mode}.{kind}.f32 x, a;", {"x": dtype}, a=a)
    info = np.iinfo(dtype)
    nan = int(np.array(1 << 63, np.uint64).astype(dtype)) if kind.endswith("64") else 0
    for got, value in zip(x, ROUND[mode](a.astype(float)), strict=True):
        wanted = nan if np.isnan(value) else int(np.clip(value, -1e30, 1e30))
        assert int(got) == (nan if np.isnan(value) else min(max(wanted, info.min), info.max))


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
def test_integers_to_floats_are_rounded_once(lanes: Lanes, kind: str) -> None:
    dtype = np.dtype(f"{'i' if kind[0] == 's' else 'u'}{int(kind[1:]) // 8}")
    a = integers(dtype)
    code = f"cvt.rn.f32.{kind} x, a; cvt.rn.f64.{kind} y, a;"
    x, y = lanes(code, {"x": np.float32, "y": np.float64}, a=a)
    np.testing.assert_array_equal(y, [float(int(v)) for v in a])
    # Of two roundings the first is exact here, but for 64 bits: numpy's own cast rounds once.
    np.testing.assert_array_equal(x, a.astype(np.float32))


@pytest.mark.parametrize(
    ("to", "of"), [("s8", "s32"), ("u8", "s32"), ("s16", "u32"), ("u16", "s32")]
)
def test_narrowing_drops_bits_or_saturates(lanes: Lanes, to: str, of: str) -> None:
    a = integers(np.int32 if of == "s32" else np.uint32)
    a[:100] = np.arange(100) * 5 - (200 if of == "s32" else 0)
    dtype = np.dtype(f"{'i' if to[0] == 's' else 'u'}{int(to[1:]) // 8}")
    code = f"cvt.{to}.{of} x, a; cvt.sat.{to}.{of} y, a;"
    x, y = lanes(code, {"x": dtype, "y": dtype}, a=a)
    info = np.iinfo(dtype)
    np.testing.assert_array_equal(x, a.astype(dtype))
    np.testing.assert_array_equal(y, np.clip(a, max(info.min, np.iinfo(a.dtype).min), info.max))


def test_a_signed_byte_widens_with_its_sign(lanes: Lanes) -> None:
    a = np.arange(256, dtype=np.int32) | 0x4500
    code = "cvt.s32.s8 x, a; cvt.u32.u8 y, a; cvt.s64.s32 z, a; cvt.rn.f32.s8 w, a;"
    outputs = {"x": np.int32, "y": np.uint32, "z": np.int64, "w": np.float32}
    x, y, z, w = lanes(code, outputs, a=a)
    np.testing.assert_array_equal(x, a.astype(np.int8))
    np.testing.assert_array_equal(y, a.astype(np.uint8))
    np.testing.assert_array_equal(z, a)
    np.testing.assert_array_equal(w, a.astype(np.int8))


@pytest.mark.parametrize(("kind", "dtype"), [("f16", np.dtype(np.float16)), ("bf16", BF16)])
def test_halves_to_nearest_even_and_to_zero(lanes: Lanes, kind: str, dtype: Any) -> None:
    a = floats()
    code = f"cvt.rn.{kind}.f32 x, a; cvt.rz.{kind}.f32 y, a; cvt.f32.{kind} z, x;"
    x, y, z = lanes(code, {"x": dtype, "y": dtype, "z": np.float32}, a=a)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(x.astype(float), a.astype(dtype).astype(float))
    np.testing.assert_array_equal(z, x.astype(np.float32))
    short, exact = np.abs(y.astype(float)), np.abs(a.astype(float))
    below = np.isfinite(a)
    assert (short[below] <= exact[below]).all()
    with np.errstate(all="ignore"):
        beyond = np.abs(np.nextafter(y, y + y).astype(float)) if kind == "f16" else short * 1.01
    inside = below & (exact > 1e-4) & (exact < 1e4)
    assert (beyond[inside] > exact[inside]).all()


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_the_first_of_a_pair_goes_up(lanes: Lanes, kind: str) -> None:
    dtype = np.dtype(np.float16) if kind == "f16" else BF16
    a = np.arange(128, dtype=np.float32) / 3
    (x,) = lanes(f"cvt.rn.{kind}x2.f32 x, a, b;", {"x": np.uint32}, a=a, b=-a)
    pairs = x.view(dtype).reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 1], a.astype(dtype))
    np.testing.assert_array_equal(pairs[:, 0], (-a).astype(dtype))


def test_tf32_keeps_ten_bits_with_ties_away(lanes: Lanes) -> None:
    a = np.resize(np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, -1 - 2.0**-11, 1 + 2.0**-12]), 128)
    (x,) = lanes("cvt.rna.tf32.f32 x, a;", {"x": np.float32}, a=a.astype(np.float32))
    np.testing.assert_array_equal(x[:4], [1 + 2.0**-10, 1 + 2 * 2.0**-10, -1 - 2.0**-10, 1])


def test_doubles_narrow_once(lanes: Lanes) -> None:
    a = np.resize(np.array([1 + 2.0**-24 + 2.0**-50, 1 + 2.0**-24, -(1 + 2.0**-30), 1e-46]), 128)
    code = "cvt.rn.f32.f64 x, a; cvt.rz.f32.f64 y, a; cvt.rm.f32.f64 z, a; cvt.rp.f32.f64 w, a;"
    x, y, z, w = lanes(code, {n: np.float32 for n in "xyzw"}, a=a)
    up, tiny = 1 + 2.0**-23, 2.0**-149
    np.testing.assert_array_equal(x[:4], [up, 1, -1, 0])
    np.testing.assert_array_equal(y[:4], [1, 1, -1, 0])
    np.testing.assert_array_equal(z[:4], [1, 1, -up, 0])
    np.testing.assert_array_equal(w[:4], [up, up, -1, tiny])

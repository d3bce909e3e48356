"""Floating-point instructions: rounded ones against fractions, others within their bounds."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Lanes = Callable[..., list[Array]]

SPECIAL = np.array(
    [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1.4e-45, 3.4e38, 1.1754944e-38],
    np.float32,
)
BF16 = np.dtype(ml_dtypes.bfloat16)


def samples(seed: int = 0) -> Array:
    """Special values, random bits, and numbers of like size, which cancel: 384 of them."""
    rng = np.random.default_rng(seed)
    near = rng.standard_normal(200).astype(np.float32)
    any_bits = rng.integers(0, 2**32, 384 - 200 - SPECIAL.size, np.uint32).view(np.float32)
    return rng.permutation(np.concatenate([SPECIAL, near, any_bits]))


def rounded(exact: Fraction, mode: str, fraction_bits: int = 23, least: int = -149) -> float:
    """``exact`` to the nearest number of a format, or the next towards ``mode``."""
    if exact == 0:
        return 0.0
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - fraction_bits, least)
    steps = exact / unit
    whole = {"rn": round, "rz": math.trunc, "rm": math.floor, "rp": math.ceil}[mode](steps)
    return float(whole * unit)


def assert_rounded(x: Array, exact: list[Fraction | None], mode: str = "rn") -> None:
    """Every finite result is the exact one, rounded once; the tests of overflow are others."""
    checked = 0
    for got, value in zip(x, exact, strict=True):
        if value is not None and abs(value) < Fraction(2) ** 127:
            assert float(got) == rounded(value, mode), (got, value)
            checked += 1
    assert checked > 100


def fractions(*arrays: Array) -> list[tuple[Fraction, ...] | None]:
    rows = zip(*(a.tolist() for a in arrays), strict=True)
    return [tuple(map(Fraction, r)) if all(map(math.isfinite, r)) else None for r in rows]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("opcode", ["add", "sub", "mul"])
def test_sums_and_products_are_rounded_once(lanes: Lanes, opcode: str, mode: str) -> None:
    a, b = samples(), samples(1)
    (x,) = lanes(f"{opcode}.{mode}.f32 x, a, b;", {"x": np.float32}, a=a, b=b)
    of = {"add": Fraction.__add__, "sub": Fraction.__sub__, "mul": Fraction.__mul__}[opcode]
    assert_rounded(x, [None if r is None else of(*r) for r in fractions(a, b)], mode)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_fma_is_rounded_once(lanes: Lanes, mode: str) -> None:
    a, b, c = samples(), samples(1), samples(2)
    # Products that lie beside the middle of two numbers: what rounds twice goes wrong here.
    a[:50] = np.float32(1 + 2.0**-12) * (1 + np.arange(50, dtype=np.float32) * np.float32(2.0**-20))
    b[:50], c[:50] = a[:50], np.ldexp(np.float32(1), -np.arange(30, 80)).astype(np.float32)
    (x,) = lanes(f"fma.{mode}.f32 x, a, b, c;", {"x": np.float32}, a=a, b=b, c=c)
    assert_rounded(x, [None if r is None else r[0] * r[1] + r[2] for r in fractions(a, b, c)], mode)


def test_a_sum_beside_a_tie_is_not_rounded_twice(lanes: Lanes) -> None:
    one = np.ones(128, np.float32)
    a = one * np.float32(1 + 2.0**-12)
    b = one * np.float32(1 + 2.0**-12)
    c = one * np.float32(2.0**-100)
    c[::2] *= -1
    (x,) = lanes("fma.rn.f32 x, a, b, c;", {"x": np.float32}, a=a, b=b, c=c)
    assert_rounded(x, [None if r is None else r[0] * r[1] + r[2] for r in fractions(a, b, c)])
    assert x[0] != x[1]


def test_quotients_and_roots_are_rounded_once(lanes: Lanes) -> None:
    a, b = samples(), samples(1)
    code = "div.rn.f32 x, a, b; sqrt.rn.f32 y, c; rcp.rn.f32 z, b;"
    x, y, z = lanes(code, {n: np.float32 for n in "xyz"}, a=a, b=b, c=np.abs(a))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(x, (a.astype(float) / b).astype(np.float32))
        np.testing.assert_array_equal(y, np.sqrt(np.abs(a)))
        np.testing.assert_array_equal(z, (1 / b.astype(float)).astype(np.float32))


def test_ftz_takes_and_gives_zeros_for_subnormal_numbers(lanes: Lanes) -> None:
    a = np.resize(np.array([1e-40, -1e-40, 1.2e-38, -1.2e-38, 2.0], np.float32), 128)
    b = np.resize(np.array([1.0, 1.0, 0.5, 0.5, 1.3e-38], np.float32), 128)
    x, y = lanes(
        "mul.ftz.f32 x, a, b; mul.f32 y, a, b;", {"x": np.float32, "y": np.float32}, a=a, b=b
    )
    np.testing.assert_array_equal(x[:5], np.array([0, -0.0, 0, -0.0, 2.6e-38], np.float32))
    assert np.signbit(x[1])
    assert np.signbit(x[3])
    np.testing.assert_array_equal(y, a * b)


def test_extremes_prefer_numbers_and_order_zeros(lanes: Lanes) -> None:
    a = np.resize(np.array([0, -0.0, np.nan, 1, np.nan, -0.0], np.float32), 192 * 2)
    b = np.resize(np.array([-0.0, 0, 2, np.nan, np.nan, -0.0], np.float32), 192 * 2)
    code = "max.f32 x, a, b; min.f32 y, a, b; max.NaN.f32 z, a, b;"
    x, y, z = lanes(code, {n: np.float32 for n in "xyz"}, a=a, b=b)
    np.testing.assert_array_equal(x[:6], np.array([0, 0, 2, 1, np.nan, -0.0], np.float32))
    np.testing.assert_array_equal(np.signbit(x[:2]), [False, False])
    np.testing.assert_array_equal(np.signbit(y[:2]), [True, True])
    assert np.isnan(z[2:5]).all()


def test_saturation_keeps_to_zero_and_one(lanes: Lanes) -> None:
    a = samples()
    (x,) = lanes("add.sat.f32 x, a, 0f00000000;", {"x": np.float32}, a=a)
    np.testing.assert_array_equal(x, np.clip(np.nan_to_num(a), 0, 1))


APPROXIMATIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "ex2.approx": (np.exp2, 2.0**-22),
    "lg2.approx": (np.log2, 2.0**-22),
    "sin.approx": (np.sin, 2.0**-20),
    "cos.approx": (np.cos, 2.0**-20),
    "rcp.approx": (np.reciprocal, 2.0**-22),
    "sqrt.approx": (np.sqrt, 2.0**-22),
    "rsqrt.approx": (lambda a: 1 / np.sqrt(a), 2.0**-22),
    "tanh.approx": (np.tanh, 2.0**-11),
}


@pytest.mark.parametrize("opcode", APPROXIMATIONS)
def test_approximations_keep_within_their_bounds(lanes: Lanes, opcode: str) -> None:
    function, bound = APPROXIMATIONS[opcode]
    a = np.random.default_rng(0).uniform(0.1, 3, 128).astype(np.float32)
    (x,) = lanes(f"{opcode}.f32 x, a;", {"x": np.float32}, a=a)
    np.testing.assert_allclose(x, function(a.astype(float)), rtol=bound, atol=bound)


def test_approximations_at_their_ends(lanes: Lanes) -> None:
    a = np.resize(np.array([0, -0.0, np.inf, -np.inf, -1, np.nan], np.float32), 384)
    code = (
        "ex2.approx.ftz.f32 x, a; lg2.approx.f32 y, a; rsqrt.approx.f32 z, a; rcp.approx.f32 w, a;"
    )
    x, y, z, w = lanes(code, {n: np.float32 for n in "xyzw"}, a=a)
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(x[:6], [1, 1, inf, 0, 0.5, nan])
    np.testing.assert_array_equal(y[:6], [-inf, -inf, inf, nan, nan, nan])
    np.testing.assert_array_equal(z[:6], [inf, -inf, 0, nan, nan, nan])
    np.testing.assert_array_equal(w[:6], [inf, -inf, 0, -0.0, -1, nan])


HALVES: dict[str, tuple[Any, int, int]] = {"f16": (np.float16, 10, -24), "bf16": (BF16, 7, -133)}


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("packed", [False, True])
def test_halves_are_rounded_once(lanes: Lanes, kind: str, packed: bool) -> None:
    dtype, bits, least = HALVES[kind]
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(256).astype(dtype) for _ in range(3))
    c[:60] = np.ldexp(1.0, -(np.arange(60) % 24)).astype(dtype)
    if packed:
        loads = {n: v.view(np.uint32) for n, v in {"a": a, "b": b, "c": c}.items()}
        code = f"fma.rn.{kind}x2 x, a, b, c;"
        (x,) = (v.view(dtype) for v in lanes(code, {"x": np.uint32}, **loads))
    else:
        (x,) = lanes(f"fma.rn.{kind} x, a, b, c;", {"x": dtype}, a=a, b=b, c=c)
    for p, q, r, got in zip(*(v.astype(float).tolist() for v in (a, b, c, x)), strict=True):
        assert got == rounded(Fraction(p) * Fraction(q) + Fraction(r), "rn", bits, least)


def test_packed_halves_compare_to_ones(lanes: Lanes) -> None:
    a = np.resize(np.array([1, np.nan, -2, 0], np.float16), 256)
    (x,) = lanes("set.nan.f16x2.f16x2 x, a, a;", {"x": np.uint32}, a=a.view(np.uint32))
    np.testing.assert_array_equal(x.view(np.float16), np.isnan(a))


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a < b or a > b,
    "neu": lambda a, b: a != b,
    "ltu": lambda a, b: not a >= b,
    "ge": lambda a, b: a >= b,
    "nan": lambda a, b: math.isnan(a) or math.isnan(b),
    "num": lambda a, b: not (math.isnan(a) or math.isnan(b)),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_with_nan(lanes: Lanes, name: str) -> None:
    a, b = samples(), samples(1)
    a[::5] = b[::5]
    (x,) = lanes(f"setp.{name}.f32 p, a, b; selp.u32 x, 1, 0, p;", {"x": np.uint32}, a=a, b=b)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    np.testing.assert_array_equal(x, [COMPARISONS[name](*pair) for pair in pairs])


def test_signs_and_kinds_of_numbers(lanes: Lanes) -> None:
    a, b = samples(), samples(1)
    code = (
        "copysign.f32 x, a, b; neg.f32 y, a; testp.normal.f32 p, a; selp.f32 z, a, 0f00000000, p;"
    )
    x, y, z = lanes(code, {n: np.float32 for n in "xyz"}, a=a, b=b)
    np.testing.assert_array_equal(x, np.copysign(b, a))
    np.testing.assert_array_equal(y, -a)
    normal = np.isfinite(a) & (np.abs(a) >= np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(z, np.where(normal, a, 0))

"""The float maths against double precision, in units in the last place of the result."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

TINY = 2.0**-126
INF, NAN = np.inf, np.nan


def lanewise(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return np.vectorize(function, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x)))


def gelu_tanh(x: Array) -> Array:
    return x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def gelu(x: Array) -> Array:
    return x * 0.5 * lanewise(math.erfc)(-x / math.sqrt(2))


# name: reference, largest error in ulp with FMA, without it, and the interval it holds on
EVERYWHERE = (-INF, INF)
UNARY: dict[str, tuple[Callable[[Array], Array], float, float, tuple[float, float]]] = {
    "exp": (np.exp, 0.9, 1.2, EVERYWHERE),
    "exp2": (np.exp2, 0.8, 1.2, EVERYWHERE),
    "expm1": (np.expm1, 1.5, 1.7, EVERYWHERE),
    "log": (np.log, 0.9, 0.9, EVERYWHERE),
    "log2": (np.log2, 1.5, 2.2, EVERYWHERE),
    "log1p": (np.log1p, 1.6, 1.7, EVERYWHERE),
    "tanh": (np.tanh, 2.6, 2.6, EVERYWHERE),
    "sigmoid": (sigmoid, 2.5, 2.5, EVERYWHERE),
    "silu": (lambda x: x * sigmoid(x), 3.3, 3.3, (-87, INF)),
    "softplus": (softplus, 2.1, 2.1, EVERYWHERE),
    "mish": (lambda x: x * np.tanh(softplus(x)), 4.1, 4.1, (-87, INF)),
    "erf": (lanewise(math.erf), 1.3, 1.4, EVERYWHERE),
    "gelu": (gelu, 3.0, 3.6, (-1, INF)),
    "gelu_tanh": (gelu_tanh, 40.0, 40.0, (-5, INF)),
    "sin": (np.sin, 1.6, 1.6, EVERYWHERE),
    "cos": (np.cos, 1.6, 1.6, EVERYWHERE),
    "sqrt": (np.sqrt, 0.5, 0.5, EVERYWHERE),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5, 1.5, EVERYWHERE),
    "round": (np.rint, 0.0, 0.0, EVERYWHERE),
    "floor": (np.floor, 0.0, 0.0, EVERYWHERE),
    "ceil": (np.ceil, 0.0, 0.0, EVERYWHERE),
    "trunc": (np.trunc, 0.0, 0.0, EVERYWHERE),
    "sign": (np.sign, 0.0, 0.0, EVERYWHERE),
    "abs": (np.abs, 0.0, 0.0, EVERYWHERE),
}
KERNELS = {name: ("f32->f32", f"v_{name}_f32(a)") for name in UNARY}
KERNELS.update(
    {
        f"s_{name}": (
            "f32->f32",
            f"for (i64 i = 0; i < n; i++) ((f32 *)out)[i] = s_{name}_f32(((const f32 *)in[0])[i]);",
        )
        for name in UNARY
    }
)
KERNELS["pow"] = ("f32,f32->f32", "v_pow_f32(a, b)")
KERNELS["fma"] = ("f32,f32,f32->f32", "v_fma_f32(a, b, c)")
KERNELS["fma64"] = ("f64,f64,f64->f64", "v_fma_f64(a, b, c)")


def samples() -> Array:
    """Floats evenly over all bit patterns, and densely where models compute."""
    patterns = np.arange(0, 2**32, 18_217, dtype=np.uint64).astype(np.uint32).view(np.float32)
    dense = np.linspace(-12, 12, 60_001, dtype=np.float32)
    near_one = (np.float32(1).view(np.int32) + np.arange(-2000, 2000)).astype(np.int32)
    return np.concatenate([patterns, dense, dense / 512, near_one.view(np.float32)])


def error_in_ulps(got: Array, exact: Array) -> Array:
    """Distance in units of the last place of ``exact``, at least that of the subnormals."""
    exponent = np.frexp(np.where(np.isfinite(exact), exact, 1))[1] - 1
    unit = np.ldexp(1.0, np.maximum(exponent, -126) - 23)
    return np.abs(got.astype(np.float64) - exact) / unit


@pytest.mark.parametrize("name", UNARY)
def test_stays_within_its_stated_error(build: Build, isa: str, name: str) -> None:
    reference, fused, unfused, (low, high) = UNARY[name]
    x = samples()
    got = build(isa, "vmath.h", KERNELS)(name, x)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    # the formula of silu and its like at -inf is NaN here too
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    finite = np.isfinite(rounded) & (x >= low) & (x <= high)
    np.testing.assert_array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])
    worst = error_in_ulps(got[finite], exact[finite]).max()
    assert worst <= (unfused if isa == "generic" else fused)


@pytest.mark.parametrize("name", UNARY)
def test_bits_agree_wherever_there_is_fma(
    build: Build, isas_with_fma: list[str], name: str
) -> None:
    x = samples()
    first, *others = [build(isa, "vmath.h", KERNELS)(name, x) for isa in isas_with_fma]
    for other in others:
        same = (first.view(np.uint32) == other.view(np.uint32)) | (
            np.isnan(first) & np.isnan(other)
        )
        assert same.all(), x[~same][:5]


def test_one_lane_gives_the_bits_of_a_vector(build: Build, isa: str) -> None:
    x = samples()[::97]
    run = build(isa, "vmath.h", KERNELS)
    for name in UNARY:
        np.testing.assert_array_equal(run(name, x), run(f"s_{name}", x), err_msg=name)


SPECIAL = np.array([NAN, INF, -INF, 0.0, -0.0, 1e-45, -1e-45], np.float32)
AT_SPECIAL = {
    "exp": [NAN, INF, 0, 1, 1, 1, 1],
    "exp2": [NAN, INF, 0, 1, 1, 1, 1],
    "expm1": [NAN, INF, -1, 0.0, -0.0, 1e-45, -1e-45],
    "log": [NAN, INF, NAN, -INF, -INF, -103.27893, NAN],
    "log2": [NAN, INF, NAN, -INF, -INF, -149, NAN],
    "log1p": [NAN, INF, NAN, 0.0, -0.0, 1e-45, -1e-45],
    "tanh": [NAN, 1, -1, 0.0, -0.0, 1e-45, -1e-45],
    "erf": [NAN, 1, -1, 0.0, -0.0, 1e-45, -1e-45],
    "sigmoid": [NAN, 1, 0, 0.5, 0.5, 0.5, 0.5],
    "silu": [NAN, INF, NAN, 0.0, -0.0, 0.0, -0.0],
    "gelu": [NAN, INF, NAN, 0.0, -0.0, None, None],
    "gelu_tanh": [NAN, INF, NAN, 0.0, -0.0, 0.0, -0.0],
    "softplus": [NAN, INF, 0, 0.6931472, 0.6931472, 0.6931472, 0.6931472],
    "mish": [NAN, INF, NAN, 0.0, -0.0, 1e-45, -1e-45],
    "sin": [NAN, NAN, NAN, 0.0, -0.0, 1e-45, -1e-45],
    "cos": [NAN, NAN, NAN, 1, 1, 1, 1],
    "sqrt": [NAN, INF, NAN, 0.0, -0.0, 3.743392e-23, NAN],
    "rsqrt": [NAN, 0, NAN, INF, -INF, 2.6713738e22, NAN],
    "round": [NAN, INF, -INF, 0.0, -0.0, 0.0, -0.0],
    "floor": [NAN, INF, -INF, 0.0, -0.0, 0.0, -1],
    "ceil": [NAN, INF, -INF, 0.0, -0.0, 1, -0.0],
    "trunc": [NAN, INF, -INF, 0.0, -0.0, 0.0, -0.0],
    "sign": [NAN, 1, -1, 0.0, -0.0, 1, -1],
    "abs": [NAN, INF, INF, 0.0, 0.0, 1e-45, 1e-45],
}


@pytest.mark.parametrize("name", AT_SPECIAL)
def test_special_values_and_the_sign_of_zero(build: Build, isa: str, name: str) -> None:
    got = build(isa, "vmath.h", KERNELS)(name, SPECIAL)
    keep = [value is not None for value in AT_SPECIAL[name]]
    want = np.array([value for value in AT_SPECIAL[name] if value is not None], np.float32)
    np.testing.assert_array_equal(got[keep], want)
    np.testing.assert_array_equal(np.signbit(got[keep][want == 0]), np.signbit(want[want == 0]))


def test_gelu_stays_near_the_exact_tail(build: Build, isa: str) -> None:
    x = np.linspace(-20, 0, 100_001, dtype=np.float32)
    got, exact = build(isa, "vmath.h", KERNELS)("gelu", x), gelu(x.astype(np.float64))
    error = np.abs(got - exact)
    assert (error <= 1.2e-7 * np.abs(exact) + 4e-8 * np.abs(x)).all()
    core = (x > -5.5) & (x < -0.01)
    assert (error[core] / -exact[core]).max() < 2.0**-11
    assert (got <= 0).all()


def pow_operands() -> tuple[Array, Array]:
    special = [0.0, 0.5, 1, 1.5, 2, 3, 1e-45, 1e-38, 1e38, 3.4e38, 2.0**24 + 2, 8388609, INF, NAN]
    edges = np.array([sign * value for value in special for sign in (1, -1)], np.float32)
    left, right = (grid.ravel() for grid in np.meshgrid(edges, edges))
    rng = np.random.default_rng(7)
    base = np.exp2(rng.uniform(-149, 128, 60_000))
    power = rng.uniform(-160, 160, 60_000) / np.log2(base)
    near = 1 + rng.uniform(-1e-3, 1e-3, 20_000)
    whole = rng.integers(-30, 30, 20_000)
    x = np.concatenate([left, base, near, rng.uniform(-8, 8, 20_000)])
    y = np.concatenate([right, power, rng.uniform(-9e4, 9e4, 20_000), whole])
    return x.astype(np.float32), y.astype(np.float32)


def test_pow_is_rounded_nearly_once_with_the_special_cases_of_c(build: Build, isa: str) -> None:
    x, y = pow_operands()
    got = build(isa, "vmath.h", KERNELS)("pow", x, y)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    plain = np.isfinite(rounded) & (rounded != 0)
    np.testing.assert_array_equal(got[~plain], rounded[~plain])
    np.testing.assert_array_equal(np.signbit(got[rounded == 0]), np.signbit(exact[rounded == 0]))
    assert error_in_ulps(got[plain], exact[plain]).max() < 0.52


def test_pow_agrees_bit_for_bit_wherever_there_is_fma(
    build: Build, isas_with_fma: list[str]
) -> None:
    first, *others = [
        build(isa, "vmath.h", KERNELS)("pow", *pow_operands()) for isa in isas_with_fma
    ]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_fma_rounds_once(build: Build, isas_with_fma: list[str]) -> None:
    a = np.full(16, 1 + 2.0**-12)
    for isa in isas_with_fma:
        run = build(isa, "vmath.h", KERNELS)
        narrow = a.astype(np.float32)
        got = run("fma", narrow, narrow, np.full(16, -1 - 2.0**-11, np.float32))
        np.testing.assert_array_equal(got, np.full(16, 2.0**-24, np.float32))
        wide = np.full(16, 1 + 2.0**-27)
        got = run("fma64", wide, wide, np.full(16, -1 - 2.0**-26))
        np.testing.assert_array_equal(got, np.full(16, 2.0**-54))

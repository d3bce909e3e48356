"""Functions that go through the C library: names, edges and remainders."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]


def lanewise(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return np.vectorize(function, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x)))


def gelu_tanh(x: Array) -> Array:
    return x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


BOTH: dict[str, Callable[[Array], Array]] = {
    name: getattr(np, f"arc{name[1:]}" if name.startswith("a") else name)
    for name in ["tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"]
}
WIDE: dict[str, Callable[[Array], Array]] = BOTH | {
    name: getattr(np, name)
    for name in ["exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sin", "cos", "floor",
                 "ceil", "trunc", "sign"]
}  # fmt: skip
WIDE.update(
    {
        "erf": lanewise(math.erf),
        "round": np.rint,
        "sigmoid": sigmoid,
        "silu": lambda x: x * sigmoid(x),
        "gelu": lambda x: x * 0.5 * lanewise(math.erfc)(-x / math.sqrt(2)),
        "gelu_tanh": gelu_tanh,
        "softplus": lambda x: np.logaddexp(0, x),
        "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "sqrt": np.sqrt,
    }
)
PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "atan2": np.arctan2, "trunc_mod": np.fmod, "floor_mod": np.mod,
}  # fmt: skip
KERNELS = {f"{name}_f32": ("f32->f32", f"v_{name}_f32(a)") for name in BOTH}
KERNELS.update({f"{name}_f64": ("f64->f64", f"v_{name}_f64(a)") for name in WIDE})
KERNELS.update(
    {
        f"{name}_{t}": (f"{t},{t}->{t}", f"v_{name}_{t}(a, b)")
        for name in PAIRS
        for t in ("f32", "f64")
    }
)
KERNELS["pow_f64"] = ("f64,f64->f64", "v_pow_f64(a, b)")


def samples(dtype: str) -> Array:
    edges = [0.0, -0.0, np.nan, np.inf, -np.inf, 1, -1, 0.5, -0.5, 2.5, -2.5]
    return np.concatenate([edges, np.linspace(-5, 5, 1001)]).astype(dtype)


@pytest.mark.parametrize("name", WIDE)
def test_doubles_are_within_a_few_ulps(build: Build, isa: str, name: str) -> None:
    x = samples("<f8")
    with np.errstate(all="ignore"):
        want = WIDE[name](x)
    got = build(isa, "libm.h", KERNELS)(f"{name}_f64", x)
    tolerance = 2e-14 if "gelu" in name else 4e-15  # the argument of erfc is rounded
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=1e-300)


@pytest.mark.parametrize("name", BOTH)
def test_rare_float_functions_are_within_a_few_ulps(build: Build, isa: str, name: str) -> None:
    x = samples("<f4")
    with np.errstate(all="ignore"):
        want = BOTH[name](x.astype(np.float64)).astype(np.float32)
    got = build(isa, "libm.h", KERNELS)(f"{name}_f32", x)
    np.testing.assert_allclose(got, want, rtol=4e-7, atol=1e-40)


@pytest.mark.parametrize("t", ["f32", "f64"])
def test_remainders_have_the_sign_of_one_operand(build: Build, isa: str, t: str) -> None:
    run, dtype = build(isa, "libm.h", KERNELS), f"<f{t[1:]}".replace("32", "4").replace("64", "8")
    a, b = (grid.ravel() for grid in np.meshgrid(*[samples(dtype)[::7]] * 2))
    with np.errstate(all="ignore"):
        for name in ("trunc_mod", "floor_mod"):
            got, want = run(f"{name}_{t}", a, b), PAIRS[name](a, b)
            np.testing.assert_array_equal(got, want, err_msg=name)
            np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))
        np.testing.assert_allclose(run(f"atan2_{t}", a, b), np.arctan2(a, b), rtol=4e-7)


def test_pow_of_doubles(build: Build, isa: str) -> None:
    a, b = (grid.ravel() for grid in np.meshgrid(*[samples("<f8")[::9]] * 2))
    with np.errstate(all="ignore"):
        want = np.power(a, b)
    np.testing.assert_allclose(build(isa, "libm.h", KERNELS)("pow_f64", a, b), want, rtol=4e-15)

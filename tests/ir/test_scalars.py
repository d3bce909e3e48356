"""Scalar functions: agreement with torch, element types, and the corners of integers."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.nn import functional

from tapeout.ir.dtypes import DTYPES, DType, dtype_of
from tapeout.ir.scalars import SCALARS, evaluate

ORACLES: dict[str, Callable[..., Any]] = {
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": partial(functional.softplus, threshold=1e9),
    "mish": functional.mish,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": torch.relu,
    "rsqrt": torch.rsqrt,
    "round": torch.round,
    "expm1": torch.expm1,
    "asinh": torch.asinh,
    "trunc_mod": torch.fmod,
    "floor_mod": torch.remainder,
    "min": torch.minimum,
    "max": torch.maximum,
}


@pytest.mark.parametrize("fn", ORACLES)
def test_float_functions_agree_with_torch(fn: str) -> None:
    random = np.random.default_rng(4)
    xs = [random.uniform(-6, 6, 500).astype(np.float32) for _ in range(SCALARS[fn].arity)]
    xs[0][:4] = [0.0, -0.0, 30.0, -30.0]
    want = ORACLES[fn](*map(torch.tensor, xs)).numpy()
    np.testing.assert_allclose(evaluate(fn, *xs), want, rtol=2e-6, atol=1e-6)


# f8e8m0 has no negative values, so nothing to negate to.
ACCEPTED = [
    (fn, dtype)
    for fn, scalar in SCALARS.items()
    for dtype in DTYPES.values()
    if dtype.kind in scalar.accepts and dtype.kind != "string"
    if dtype.name != "f8e8m0" or fn not in ("neg", "sub")
]


@pytest.mark.parametrize(("fn", "dtype"), ACCEPTED, ids=[f"{fn}-{t}" for fn, t in ACCEPTED])
def test_every_accepted_type_is_computed_and_kept(fn: str, dtype: DType) -> None:
    scalar = SCALARS[fn]
    xs = [np.array([0, 1, 1]).astype(dtype.numpy) for _ in range(scalar.arity)]
    if fn == "where":
        xs[0] = np.array([True, False, True])
    result = evaluate(fn, *xs)
    assert dtype_of(result) is (DTYPES["bool"] if scalar.returns_bool else dtype)
    assert result.shape == (3,)


def test_integer_division_truncates_and_zero_divides_to_zero() -> None:
    a, b = np.array([7, -7, 7, -7, 5]), np.array([2, 2, -2, -2, 0])
    np.testing.assert_array_equal(evaluate("div", a, b), [3, -3, -3, 3, 0])
    np.testing.assert_array_equal(evaluate("trunc_mod", a, b), [1, -1, 1, -1, 0])
    np.testing.assert_array_equal(evaluate("floor_mod", a, b), [1, 1, -1, -1, 0])


def test_shifts_by_the_width_give_zero() -> None:
    ones, by = np.full(3, 255, np.uint8), np.array([1, 7, 8], np.uint8)
    np.testing.assert_array_equal(evaluate("shift_left", ones, by), [254, 128, 0])
    np.testing.assert_array_equal(evaluate("shift_right", ones, by), [127, 1, 0])


def test_narrow_floats_are_rounded_once() -> None:
    x = np.array([1.0, 3.0], ml_dtypes.bfloat16)
    exact = np.float32(1) / np.sqrt(x.astype(np.float32))
    np.testing.assert_array_equal(evaluate("rsqrt", x), exact.astype(ml_dtypes.bfloat16))


def test_nan_goes_through_min_and_max() -> None:
    a, b = np.array([np.nan, 1.0], np.float32), np.array([1.0, np.nan], np.float32)
    assert np.isnan(evaluate("max", a, b)).all()
    assert np.isnan(evaluate("min", a, b)).all()


def test_nothing_warns_about_what_ieee_defines() -> None:
    x = np.array([-1.0, 0.0, np.inf], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fn in ("log", "sqrt", "rsqrt", "reciprocal", "exp", "tan"):
            evaluate(fn, x)

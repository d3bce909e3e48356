"""The error function over arrays against ``math.erf``."""

import math

import numpy as np

from tapeout.ir.erf import erf


def test_erf_is_within_two_ulp_of_maths() -> None:
    random = np.random.default_rng(1)
    x = np.concatenate([random.standard_normal(20_000) * 2, 10.0 ** np.arange(-320, 3)])
    want = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(erf(x) - want) / np.spacing(np.abs(want))) <= 2


def test_erf_keeps_signs_nan_and_shape() -> None:
    x = np.array([[0.0, -0.0, math.inf], [-math.inf, math.nan, -0.5]], np.float32)
    have = erf(x)
    assert have.dtype == np.float32
    np.testing.assert_array_equal(
        have, np.array([[0, -0.0, 1], [-1, math.nan, math.erf(-0.5)]], np.float32)
    )
    assert np.signbit(have[0, 1])
    assert erf(np.array(0.5)).shape == ()

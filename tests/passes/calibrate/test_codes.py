"""Scales and zero points: zero is exact, a range is reached, and nothing is infinite."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tapeout.passes.calibrate.codes import Codes, Scaling

Array = np.ndarray[Any, Any]

FLAGS = [False, True]
ALL = [Codes(b, *flags) for b in range(2, 9) for flags in itertools.product(FLAGS, FLAGS, FLAGS)]
TOP = float(np.finfo(np.float32).max)


def ranges(count: int = 300) -> tuple[Array, Array]:
    """Ranges of every sign and size, two-sided and one-sided, some empty."""
    random = np.random.default_rng(5)
    ends = random.choice([-1, 0, 1], (2, count)) * 10 ** random.uniform(-44, 38, (2, count))
    ends = np.concatenate([ends, [[-TOP, 0, 0, math.inf, 1e-45], [TOP, TOP, 0, -math.inf, 1]]], 1)
    return ends[0], ends[1]


@pytest.mark.parametrize("codes", ALL, ids=str)
def test_scales_are_normal_and_zero_is_a_code(codes: Codes) -> None:
    by = codes.fit(*ranges())
    assert by.scale.dtype == np.float32
    assert np.all(by.scale >= np.finfo(np.float32).tiny)
    assert np.all(np.isfinite(by.scale))
    zero = np.zeros(by.scale.shape, np.float32)
    np.testing.assert_array_equal(codes.encode(zero, by), by.zero_point)
    np.testing.assert_array_equal(codes.decode(by.zero_point, by), zero)
    assert np.all((by.zero_point >= codes.low) & (by.zero_point <= codes.high))


@pytest.mark.parametrize("codes", ALL, ids=str)
def test_values_inside_a_range_are_off_by_half_a_step_at_most(codes: Codes) -> None:
    random = np.random.default_rng(6)
    low, high = np.minimum(*ranges()), np.maximum(*ranges())
    finite = np.maximum(np.abs(low), np.abs(high)) < 1e36
    low, high = np.minimum(low[finite], 0), np.maximum(high[finite], 0)
    by = codes.fit(low, high)
    for share in (0.0, 1.0, *random.random(20)):
        x = (low * (1 - share) + high * share).astype(np.float32)
        error = np.abs(codes.decode(codes.encode(x, by), by).astype(np.float64) - x)
        # Rounding in f32: of the scale, of the quotient, and of the product.
        assert np.all(error <= by.scale.astype(np.float64) * 0.5001 + np.abs(x) * 2e-7)


def test_known_scalings() -> None:
    u8 = Codes(8, signed=False, symmetric=False).fit(-1.0, 4.1)
    assert (float(u8.scale), int(u8.zero_point)) == (np.float32(5.1 / 255), 50)
    i8 = Codes(8).fit(-1.0, 127.0)
    assert (float(i8.scale), int(i8.zero_point)) == (1.0, 0)
    assert float(Codes(8).fit(-128.0, 1.0).scale) == 1.0
    assert float(Codes(8, narrow=True).fit(-127.0, 1.0).scale) == 1.0
    u4 = Codes(4, signed=False).fit(-8.0, 2.0)
    assert (float(u4.scale), int(u4.zero_point)) == (1.0, 8)
    assert float(Codes(2, narrow=True).fit(-3.0, 1.0).scale) == 3.0


def test_a_range_of_zero_alone_has_scale_one() -> None:
    for codes in ALL:
        assert codes.fit(0.0, 0.0).scale == 1


def test_codes_by_bits() -> None:
    assert [(c.low, c.high) for c in (Codes(8), Codes(8, signed=False), Codes(3, narrow=True))] == [
        (-128, 127),
        (0, 255),
        (-3, 3),
    ]
    with pytest.raises(AssertionError, match="9 bits"):
        Codes(9)


def test_ties_go_to_the_even_code_and_what_is_far_outside_to_the_last() -> None:
    by = Scaling(np.array(0.5, np.float32), np.array(3, np.int32))
    x = np.array([0.25, 0.75, -0.25, 1e38, -1e38], np.float32)
    assert Codes(8, signed=False).encode(x, by).tolist() == [3, 5, 3, 255, 0]
    tiny = Scaling(np.array(np.finfo(np.float32).tiny), np.array(0, np.int32))
    assert Codes(8).encode(x, tiny).tolist() == [127, 127, -128, 127, -128]

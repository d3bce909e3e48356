"""How far two arrays are apart, and how far they may be."""

import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.frontend.agreement import Tolerance, compare

Array = np.ndarray[Any, Any]
EXACT = Tolerance(rtol=0.0)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def test_the_worst_element_is_told() -> None:
    found = compare(floats(1, 2, 3.5), floats(1, 2.25, 4), Tolerance())
    assert (found.error, found.index, found.value, found.reference) == (0.5, (2,), 3.5, 4.0)
    assert (found.relative, found.parts) == (0.125, True)
    # Energy 1 + 2.25^2 + 16 over 0.25^2 + 0.5^2.
    assert found.sqnr_db == pytest.approx(10 * math.log10(22.0625 / 0.3125))


def test_errors_are_measured_by_the_largest_and_not_by_the_element() -> None:
    assert not compare(floats(1e-3, 100), floats(0, 100), Tolerance(rtol=1e-4)).parts
    assert compare(floats(1e-3, 1), floats(0, 1), Tolerance(rtol=1e-4)).parts


def test_a_type_may_always_be_off_by_its_own_rounding() -> None:
    one = np.ones(3, ml_dtypes.bfloat16)
    near = (one.astype(np.float32) * np.float32(1.02)).astype(ml_dtypes.bfloat16)
    assert not compare(near, one, EXACT).parts
    assert compare(near.astype(np.float32), one.astype(np.float32), EXACT).parts


def test_nan_and_infinities_agree_with_their_like_alone() -> None:
    want = floats(math.nan, math.inf, 1)
    assert compare(want.copy(), want, EXACT).error == 0
    for wrong in (floats(0, math.inf, 1), floats(math.nan, -math.inf, 1), floats(math.nan, 5, 1)):
        found = compare(wrong, want, Tolerance(rtol=1.0))
        assert (found.error, found.parts) == (math.inf, True)


def test_integers_are_exact_but_codes_may_be_one_apart() -> None:
    for kind in (np.int32, np.int64, np.bool_):
        assert compare(np.array([0], kind), np.array([1], kind), Tolerance(rtol=1.0)).parts
    assert not compare(np.array([7], np.uint8), np.array([8], np.uint8), EXACT).parts
    assert compare(np.array([7], np.uint8), np.array([9], np.uint8), EXACT).parts
    large = np.array([2**62], np.int64)
    assert compare(large + 1, large, EXACT).parts


def test_another_shape_parts_and_both_are_told() -> None:
    found = compare(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), Tolerance(atol=9))
    assert found.parts
    assert found.where == "shape [2, 3] for [3, 2]"


@pytest.mark.parametrize("shape", [(), (0, 4), (1,)])
def test_every_rank_and_no_element_at_all_compare(shape: tuple[int, ...]) -> None:
    want = np.zeros(shape, np.float32)
    assert not compare(want + 0, want, EXACT).parts


def test_json_holds_every_difference() -> None:
    found = compare(floats(math.nan), floats(1), Tolerance())
    tree = json.loads(json.dumps(found.tree(), allow_nan=False))
    assert (tree["error"], tree["parts"], tree["index"]) == ("inf", True, [0])

"""The histogram: nothing is lost, and neither order nor growth shows."""

from typing import Any

import numpy as np
import pytest

from tapeout.passes.calibrate.histogram import BINS, HALF, Histogram

Array = np.ndarray[Any, Any]


def of(*parts: Array) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part, float(np.abs(part).max()))
    return made


def spread(seed: int, size: int = 4000) -> Array:
    """Magnitudes from 1e-9 to 1e9 of either sign, with some zeros."""
    random = np.random.default_rng(seed)
    values = random.choice([-1, 1], size) * 10 ** random.uniform(-9, 9, size)
    return np.where(random.random(size) < 0.1, 0, values).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_parts_in_any_order_give_the_bins_of_all_at_once(seed: int) -> None:
    values = spread(seed)
    whole = of(values)
    ordered = values[np.argsort(np.abs(values))]
    for parts in (np.split(values, 8), np.split(ordered, 8), np.split(ordered[::-1], 50)):
        have = of(*parts)
        assert (have.exponent, have.zeros) == (whole.exponent, whole.zeros)
        np.testing.assert_array_equal(have.counts, whole.counts)


@pytest.mark.parametrize("seed", range(5))
def test_every_value_is_in_the_bin_that_holds_it(seed: int) -> None:
    values = spread(seed)
    have = of(values)
    edges = (np.arange(BINS + 1) - HALF) * have.width
    want, _ = np.histogram(values[values != 0], edges)
    np.testing.assert_array_equal(have.counts, want)
    assert have.total == values.size


def test_the_largest_value_is_beyond_a_quarter_of_the_bins() -> None:
    for top in (1.0, 1.999, 2.0, 1e-6, 3e38):
        edges, counts = of(np.array([top, 0.0], np.float32)).occupied()
        assert counts.tolist() == [1]
        assert edges[0] <= np.float32(top) < edges[1]
        assert edges[0] >= 2047 * (edges[1] - edges[0])


def test_zeros_and_values_too_small_to_tell_apart() -> None:
    have = of(np.array([0.0, -0.0, 1e-45, -1e-45], np.float32))
    assert have.zeros == 2
    assert have.counts[HALF - 1 : HALF + 1].tolist() == [1, 1]


def test_growth_to_the_widest_range_keeps_the_signs() -> None:
    have = of(np.array([-1e-30, 1e-30], np.float32))
    have.add(np.array([3e38], np.float32), 3e38)
    assert have.counts[HALF - 1 : HALF + 1].tolist() == [1, 1]
    assert have.total == 3


def test_nothing_seen_occupies_nothing() -> None:
    edges, counts = Histogram().occupied()
    assert (edges.size, counts.size) == (1, 0)

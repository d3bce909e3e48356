"""Observers on distributions whose best range is known, and on what should not be clipped."""

from typing import Any

import numpy as np
import pytest

from tapeout.passes.calibrate.codes import Codes
from tapeout.passes.calibrate.observers import (
    OBSERVERS,
    entropy,
    min_max,
    mse,
    percentile,
    scaling,
    squared_errors,
)
from tapeout.passes.calibrate.statistics import statistics_of

Array = np.ndarray[Any, Any]

COUNT = 100_000
SYMMETRIC = Codes(8)
AFFINE = Codes(8, signed=False, symmetric=False)
TARGETS = [
    SYMMETRIC,
    AFFINE,
    Codes(8, narrow=True),
    Codes(4),
    Codes(4, signed=False, symmetric=False),
    Codes(2, symmetric=False),
]


def drawn(kind: str, seed: int = 0) -> Array:
    """A hundred thousand values of a distribution by name."""
    random = np.random.default_rng(seed)
    normal = random.standard_normal(COUNT)
    values = {
        "gaussian": normal,
        "laplace": random.laplace(size=COUNT),
        "uniform": random.uniform(-1, 1, COUNT),
        "relu": np.maximum(normal, 0),
        "shifted": normal + 4,
        "negative": -np.abs(normal) - 1,
        "outliers": np.where(np.arange(COUNT) < 10, 100, normal),
        "skewed": np.where(np.arange(COUNT) < 10, -100, np.abs(normal)),
        "heavy": random.standard_t(2, COUNT),
        "huge range": normal * 10 ** random.uniform(-20, 20, COUNT),
        "constant": np.full(COUNT, 2.5),
        "negative constant": np.full(COUNT, -1e-3),
        "zero": np.zeros(COUNT),
        "one value": np.array([-7.0]),
        "two values": np.array([-3.0, 1e-6]),
        "smallest": np.array([1e-45, -1e-45]),
        "largest": np.array([3.4e38, -3.4e38, 1.0]),
    }
    return values[kind].astype(np.float32)


KINDS = (
    *("gaussian", "laplace", "uniform", "relu", "shifted", "negative", "outliers", "skewed"),
    *("heavy", "huge range", "constant", "negative constant", "zero", "one value", "two values"),
    *("smallest", "largest"),
)


def error(values: Array, codes: Codes, low: float, high: float) -> float:
    """The sum of squared errors, each value coded."""
    by = codes.fit(low, high)
    off = codes.decode(codes.encode(values, by), by).astype(np.float64) - values
    return float((off**2).sum())


@pytest.mark.parametrize("codes", TARGETS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_are_inside_of_what_was_seen_and_scales_are_sound(
    name: str, kind: str, codes: Codes
) -> None:
    values = drawn(kind)
    seen = statistics_of(values)
    low, high = OBSERVERS[name](seen, codes)
    assert min(0.0, float(values.min())) <= low <= 0 <= high <= max(0.0, float(values.max()))
    assert (low < high) == bool(np.any(values))
    by = scaling(seen, codes, OBSERVERS[name])
    assert np.isfinite(by.scale)
    assert by.scale > 0
    assert float(codes.decode(codes.encode(np.zeros(1), by), by)[0]) == 0.0


@pytest.mark.parametrize("codes", TARGETS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_least_squared_error_is_never_above_that_of_the_full_range(
    kind: str, codes: Codes
) -> None:
    values = drawn(kind)
    seen = statistics_of(values)
    chosen, full = mse(seen, codes), min_max(seen, codes)
    ends = np.array([chosen, full]).T
    found, wide = squared_errors(seen.histogram, codes, ends[0], ends[1])
    assert found <= wide
    # Of the values themselves: a bin's values are not spread quite evenly.
    assert error(values, codes, *chosen) <= error(values, codes, *full) * 1.001


@pytest.mark.parametrize("codes", TARGETS, ids=str)
@pytest.mark.parametrize(
    "kind", ["gaussian", "laplace", "relu", "shifted", "outliers", "skewed", "heavy"]
)
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
def test_errors_from_the_histogram_are_those_of_the_values(
    kind: str, codes: Codes, share: float
) -> None:
    values = drawn(kind)
    seen = statistics_of(values)
    low, high = (end * share for end in min_max(seen, codes))
    have = squared_errors(seen.histogram, codes, np.array([low]), np.array([high]))
    np.testing.assert_allclose(have, error(values, codes, low, high), rtol=0.02)


# Banner et al. 2019, arXiv:1810.05723, table 1: optimal clipping of 4 bits in units of sigma (b).
@pytest.mark.parametrize(("kind", "bits", "want"), [("gaussian", 4, 2.55), ("laplace", 4, 5.03)])
def test_mse_finds_the_known_optimum(kind: str, bits: int, want: float) -> None:
    low, high = mse(statistics_of(drawn(kind)), Codes(bits, narrow=True))
    assert -low == high
    assert abs(high - want) < 0.3


def test_mse_clips_no_uniform_values() -> None:
    low, high = mse(statistics_of(drawn("uniform")), SYMMETRIC)
    assert min(-low, high) > 0.98


def test_mse_moves_each_end_of_affine_codes_by_itself() -> None:
    seen = statistics_of(drawn("skewed"))
    low, high = mse(seen, Codes(4, signed=False, symmetric=False))
    assert high > 1.5
    assert low > -50


@pytest.mark.parametrize(("percent", "want"), [(99.0, 2.576), (99.9, 3.291), (95.45, 2.0)])
def test_percentiles_of_a_gaussian_are_its_quantiles(percent: float, want: float) -> None:
    seen = statistics_of(drawn("gaussian"))
    for codes in (SYMMETRIC, AFFINE):
        ends = percentile(seen, codes, percent)
        np.testing.assert_allclose(ends, (-want, want), rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_agree_with_numpys(kind: str) -> None:
    values = drawn(kind)
    seen = statistics_of(values)
    for percent in (50.0, 90.0, 99.9):
        want = np.quantile(np.abs(values), percent / 100, method="inverted_cdf")
        have = max(-end if end < 0 else end for end in percentile(seen, SYMMETRIC, percent))
        assert abs(have - want) <= 2 * seen.histogram.width + abs(want) * 0.02


def test_a_hundred_percent_is_the_full_range() -> None:
    for kind in KINDS:
        seen = statistics_of(drawn(kind))
        for codes in (SYMMETRIC, AFFINE):
            np.testing.assert_allclose(
                percentile(seen, codes, 100), min_max(seen, codes), atol=seen.histogram.width
            )


def test_zeros_count_among_the_values() -> None:
    values = np.concatenate([np.zeros(900), np.linspace(1, 2, 100)]).astype(np.float32)
    seen = statistics_of(values)
    assert percentile(seen, SYMMETRIC, 90) == (0.0, 0.0)
    assert abs(percentile(seen, SYMMETRIC, 95)[1] - 1.5) < 0.02


def test_entropy_cuts_outliers_off_and_keeps_the_body() -> None:
    low, high = entropy(statistics_of(drawn("outliers")), SYMMETRIC)
    assert 3 < -low < 6
    assert 3 < high < 20


@pytest.mark.parametrize("kind", ["uniform", "relu", "shifted"])
def test_entropy_of_eight_bits_keeps_nearly_all_of_what_has_no_tail(kind: str) -> None:
    values = drawn(kind)
    low, high = entropy(statistics_of(values), AFFINE)
    assert np.mean((values < low) | (values > high)) < 1e-3


def test_fewer_bits_clip_more() -> None:
    seen = statistics_of(drawn("gaussian"))
    for observer in (mse, entropy):
        highs = [observer(seen, Codes(bits))[1] for bits in (8, 6, 4, 3)]
        assert highs == sorted(highs, reverse=True)
        assert highs[-1] < highs[0]


@pytest.mark.parametrize("name", OBSERVERS)
def test_scales_follow_the_values(name: str) -> None:
    values = drawn("laplace")
    for codes in TARGETS:
        one = scaling(statistics_of(values), codes, OBSERVERS[name])
        # A power of two leaves the bins as they are.
        four = scaling(statistics_of(values * 4), codes, OBSERVERS[name])
        assert four.scale == one.scale * 4
        assert four.zero_point == one.zero_point


@pytest.mark.parametrize("seed", range(20))
def test_random_arrays_keep_what_every_observer_promises(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 2000))
    values = (random.standard_normal(size) * 10 ** random.uniform(-30, 30)).astype(np.float32)
    values = np.where(random.random(size) < random.random(), values, 0)
    seen = statistics_of(values)
    for codes in TARGETS:
        full = error(values, codes, *min_max(seen, codes))
        for name, observer in OBSERVERS.items():
            low, high = observer(seen, codes)
            assert min(0, values.min()) <= low <= 0 <= high <= max(0, values.max())
            if name == "mse":
                # Few values in a bin are not spread evenly: their error is off by a bin's width.
                slack = size * seen.histogram.width * float(codes.fit(*min_max(seen, codes)).scale)
                assert error(values, codes, low, high) <= full + slack

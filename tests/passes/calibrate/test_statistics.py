"""What is kept of a value is what numpy says of all its arrays together."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.passes.calibrate.statistics import Channels, Gram, Rows, Statistics

Array = np.ndarray[Any, Any]


def full(size: int, rows: int = 10) -> Statistics:
    return Statistics(channels=Channels.of(size), gram=Gram.of(size), rows=Rows.of(size, rows))


def parts(dtype: Any = np.float32) -> list[Array]:
    random = np.random.default_rng(3)
    return [random.standard_normal((2, n, 5)).astype(dtype) for n in (1, 7, 0, 30)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_statistics_of_parts_are_those_of_the_whole(dtype: Any) -> None:
    seen = full(5)
    for part in parts(dtype):
        seen.add(part)
    rows = np.concatenate([p.reshape(-1, 5) for p in parts(dtype)]).astype(np.float32)
    assert (seen.low, seen.high) == (rows.min(), rows.max())
    assert seen.absmax == np.abs(rows).max()
    assert seen.histogram.total == rows.size
    assert seen.channels is not None
    np.testing.assert_array_equal(seen.channels.absmax, np.abs(rows).max(axis=0))
    assert seen.gram is not None
    assert seen.gram.count == len(rows)
    np.testing.assert_allclose(seen.gram.total, rows.T @ rows, rtol=1e-5, atol=1e-5)


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    seen = full(3)
    seen.add(np.array([[np.nan, 1, -2], [np.inf, -np.inf, 3]], np.float32))
    seen.add(np.array([[1e300, 0, 0]]))
    seen.add(np.full((1, 3), np.nan, np.float32))
    assert seen.non_finite == 7
    assert (seen.low, seen.high, seen.histogram.total) == (-2, 3, 5)
    assert seen.channels is not None
    assert seen.channels.absmax.tolist() == [0, 1, 3]
    assert seen.gram is not None
    assert seen.gram.total.tolist() == [[0, 0, 0], [0, 1, -2], [0, -2, 13]]


def test_nothing_seen_has_no_magnitude() -> None:
    seen = Statistics()
    seen.add(np.zeros((0, 4), np.float32))
    assert seen.absmax == 0
    assert seen.histogram.total == 0


def test_kept_rows_are_rows_that_were_seen_and_no_more_than_asked_for() -> None:
    seen = full(5, rows=16)
    for part in parts():
        seen.add(part)
    rows = np.concatenate([p.reshape(-1, 5) for p in parts()])
    assert seen.rows is not None
    assert seen.rows.kept.shape == (16, 5)
    kept = {tuple(row) for row in seen.rows.kept.tolist()}
    assert len(kept) == 16
    assert kept <= {tuple(row) for row in rows.tolist()}


def test_each_row_has_the_same_chance_to_be_kept() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        kept = Rows.of(1, 10)
        kept.random = np.random.default_rng(seed)
        for part in np.split(np.arange(40, dtype=np.float32), 8):
            kept.add(part[:, None])
        counts[kept.kept[:, 0].astype(int)] += 1
    # 500 each; the standard deviation is 19.
    assert np.all(np.abs(counts - 500) < 100)

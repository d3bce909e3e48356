"""Sizes that only the run knows get symbols, bound by operators of the graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Import = Callable[..., Any]


def test_non_zero_feeds_a_gather(imported: Import):
    model = imported("""
    g (float[N] x, bool[N] keep) => (y) {
        y = Compress<axis = 0>(x, keep)
    }""")
    x = np.arange(5, dtype="f")
    for keep in ([True] * 5, [False] * 5, [True, False, True, False, False]):
        np.testing.assert_array_equal(model.run(x=x, keep=keep)[0], x[np.array(keep)])


@pytest.mark.parametrize("shape", [[6, 4], [0, -1], [-1, 2], [24, 1]])
def test_a_reshape_takes_its_shape_at_run_time(imported: Import, shape: list[int]):
    model = imported("g (float[A, 4] x, int64[2] shape) => (y) { y = Reshape(x, shape) }")
    x = np.arange(24, dtype="f").reshape(6, 4)
    want = x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])
    np.testing.assert_array_equal(model.run(x=x, shape=shape)[0], want)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(0, 3, 1), (-2, 100, 1), (5, 1, 2), (7, -100, -1), (-1, 0, -3)]
)
def test_a_slice_takes_its_bounds_at_run_time(imported: Import, start: int, end: int, step: int):
    model = imported(f"""
    g (float[N] x, int64[1] start, int64[1] end) => (y) {{
        axes = Constant<value_ints = [0]>()
        steps = Constant<value_ints = [{step}]>()
        y = Slice(x, start, end, axes, steps)
    }}""")
    x = np.arange(8, dtype="f")
    got = model.run(x=x, start=[start], end=[end])[0]
    np.testing.assert_array_equal(got, x[start:end:step])


@pytest.mark.parametrize("shape", [[3, 4], [2, 1, 4], [1]])
def test_an_expand_takes_its_shape_at_run_time(imported: Import, shape: list[int]):
    text = f"g (float[3, 1] x, int64[{len(shape)}] shape) => (y) {{ y = Expand(x, shape) }}"
    x = np.arange(3, dtype="f").reshape(3, 1)
    got = imported(text).run(x=x, shape=shape)[0]
    np.testing.assert_array_equal(got, x * np.ones(shape, "f"))


@pytest.mark.parametrize("pads", [[1, 0, 0, 2], [-1, 0, 1, -1], [0, 0, 0, 0]])
def test_pads_at_run_time_may_cut(imported: Import, pads: list[int]):
    model = imported("g (float[3, 3] x, int64[4] pads) => (y) { y = Pad(x, pads) }")
    x = np.arange(9, dtype="f").reshape(3, 3)
    low, high = np.maximum(pads, 0)[:2], np.maximum(pads, 0)[2:]
    cut = x[max(0, -pads[0]) : 3 + min(0, pads[2]), max(0, -pads[1]) : 3 + min(0, pads[3])]
    want = np.pad(cut, list(zip(low, high, strict=True)))
    np.testing.assert_array_equal(model.run(x=x, pads=pads)[0], want)


@pytest.mark.parametrize(("start", "limit", "delta"), [(1, 10, 3), (10, 1, -4), (5, 5, 1)])
@pytest.mark.parametrize("kind", ["int64", "float"])
def test_a_range_counts_at_run_time(
    imported: Import, kind: str, start: int, limit: int, delta: int
):
    model = imported(f"""
    g ({kind} start, {kind} limit, {kind} delta) => (y) {{ y = Range(start, limit, delta) }}""")
    dtype = np.int64 if kind == "int64" else np.float32
    values = {"start": start, "limit": limit, "delta": delta}
    got = model.run(**{n: np.array(v, dtype) for n, v in values.items()})[0]
    np.testing.assert_array_equal(got, np.arange(start, limit, delta))
    assert got.dtype == dtype


def test_tile_and_top_k_take_their_counts_at_run_time(imported: Import):
    model = imported("""
    g (float[N] x, int64[1] n, int64[1] k) => (y, v, i) {
        y = Tile(x, n)
        v, i = TopK(x, k)
    }""")
    y, v, i = model.run(x=np.array([1, 3, 2], "f"), n=[2], k=[2])
    np.testing.assert_array_equal(y, [1, 3, 2, 1, 3, 2])
    np.testing.assert_array_equal(v, [3, 2])
    np.testing.assert_array_equal(i, [1, 2])

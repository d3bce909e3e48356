"""If, Loop and Scan: decided at import where they can be, regions where they cannot."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Import = Callable[..., Any]

BRANCHES = """
    g (float[N] x, bool c) => (y) {
        y = If(c) <
            then_branch = t () => (a) { a = Concat<axis = 0>(x, x) },
            else_branch = e () => (b) { b = Neg(x) }
        >
    }"""

COUNTING = """
    g (float[2] x, int64 trips) => (last, all) {
        last, all = Loop(trips, , x) <body = b (int64 i, bool c, float[2] v) => (d, w, s) {
            d = Identity(c)
            f = Cast<to = 1>(i)
            w = Add(v, f)
            s = Mul(v, w)
        }>
    }"""


def counted(x: np.ndarray[Any, Any], trips: int) -> tuple[Any, Any]:
    scans: list[Any] = []
    for i in range(trips):
        scans.append(x * (x + i))
        x = x + i
    return x, np.array(scans, "f").reshape(trips, 2)


def test_a_known_condition_leaves_one_branch(imported: Import):
    model = imported("""
    g (float[N] x) => (y) {
        r = Shape(x)
        n = Size(r)
        one = Constant<value_int = 1>()
        c = Equal(n, one)
        y = If(c) <
            then_branch = t () => (a) { a = Neg(x) },
            else_branch = e () => (b) { b = Abs(x) }
        >
    }""")
    assert model.ops == {"map": 1}


def test_branches_of_different_sizes_bind_the_result(imported: Import):
    model = imported(BRANCHES)
    assert model.ops["if"] == 1
    x = np.arange(3, dtype="f")
    np.testing.assert_array_equal(model.run(x=x, c=True)[0], [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(model.run(x=x, c=False)[0], [0, -1, -2])


def test_branches_of_different_rank_need_a_known_condition(imported: Import):
    text = BRANCHES.replace(
        "b = Neg(x)", "one = Constant<value_ints = [0]>() b = Unsqueeze(x, one)"
    )
    with pytest.raises(CompileError, match="E0405") as refusal:
        imported(text)
    assert ("decided by", "'c'") in refusal.value.facts


@pytest.mark.parametrize("trips", [0, 1, 5, 40])
def test_a_loop_with_open_trips_stays_a_loop(imported: Import, trips: int):
    model = imported(COUNTING)
    assert model.ops["loop"] == 1
    x = np.array([1, -2], "f")
    last, scans = counted(x, trips)
    got = model.run(x=x, trips=trips)
    np.testing.assert_allclose(got[0], last)
    np.testing.assert_allclose(got[1], scans)


def test_a_short_loop_is_unrolled(imported: Import):
    text = COUNTING.replace(", int64 trips", "").replace(
        "last, all = Loop", "trips = Constant<value_int = 3>() last, all = Loop"
    )
    model = imported(text)
    assert model.ops["loop"] == 0
    x = np.array([1, -2], "f")
    last, scans = counted(x, 3)
    got = model.run(x=x)
    np.testing.assert_allclose(got[0], last)
    np.testing.assert_allclose(got[1], scans)


def test_a_long_loop_with_known_trips_has_a_known_size(imported: Import):
    text = COUNTING.replace(", int64 trips", "").replace(
        "last, all = Loop", "trips = Constant<value_int = 30>() last, all = Loop"
    )
    model = imported(text)
    assert model.ops["loop"] == 1
    assert model.outputs == ["2", "30, 2"]


def test_a_carried_value_may_grow(imported: Import):
    model = imported("""
    g (float[N] x, int64 trips) => (y) {
        y = Loop(trips, , x) <body = b (int64 i, bool c, float[M] v) => (d, w) {
            d = Identity(c)
            w = Concat<axis = 0>(v, x)
        }>
    }""")
    for trips in (0, 1, 20):
        got = model.run(x=np.array([1, 2], "f"), trips=trips)[0]
        np.testing.assert_array_equal(got, np.tile([1, 2], trips + 1))


def test_the_iteration_number_decides_a_slice_exactly(imported: Import):
    # x[i : i + 1] has one element in every iteration, and its type says so.
    model = imported("""
    g (float[20] x) => (y) {
        trips = Constant<value_int = 20>()
        y = Loop(trips, ) <body = b (int64 i, bool c) => (d, s) {
            d = Identity(c)
            axis = Constant<value_ints = [0]>()
            one = Constant<value_int = 1>()
            next = Add(i, one)
            first = Unsqueeze(i, axis)
            last = Unsqueeze(next, axis)
            s = Slice(x, first, last)
        }>
    }""")
    assert model.outputs == ["20, 1"]
    x = np.arange(20, dtype="f")
    np.testing.assert_array_equal(model.run(x=x)[0], x[:, None])


def test_a_condition_ends_a_loop(imported: Import):
    model = imported("""
    g (float x, float limit) => (y, all) {
        go = Less(x, limit)
        y, all = Loop(, go, x) <body = b (int64 i, bool c, float v) => (d, w, s) {
            w = Add(v, v)
            s = Identity(v)
            d = Less(w, limit)
        }>
    }""")
    y, scans = model.run(x=np.float32(1), limit=np.float32(50))
    assert y == 64
    np.testing.assert_array_equal(scans, [1, 2, 4, 8, 16, 32])
    assert model.run(x=np.float32(9), limit=np.float32(5))[1].shape == (0,)


def test_a_scan_runs_over_an_open_length_backwards(imported: Import):
    model = imported("""
    g (float[2] zero, float[T, 2] x) => (total, sums) {
        total, sums = Scan(zero, x) <
            num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1],
            body = b (float[2] v, float[2] e) => (w, s) { w = Add(v, e) s = Identity(w) }
        >
    }""")
    assert model.ops["loop"] == 1
    assert model.outputs == ["2", "T, 2"]
    x = np.arange(50, dtype="f").reshape(25, 2)
    total, sums = model.run(zero=np.zeros(2, "f"), x=x)
    np.testing.assert_array_equal(total, x.sum(0))
    np.testing.assert_array_equal(sums, x[::-1].cumsum(0)[::-1])


def test_a_loop_inside_a_branch_reads_outer_values(imported: Import):
    model = imported("""
    g (float[N] x, bool c, int64 trips) => (y) {
        two = Add(x, x)
        y = If(c) <
            then_branch = t () => (a) {
                a = Loop(trips, , x) <body = b (int64 i, bool k, float[N] v) => (d, w) {
                    d = Identity(k)
                    w = Add(v, two)
                }>
            },
            else_branch = e () => (z) { z = Identity(two) }
        >
    }""")
    x = np.array([1, 2], "f")
    np.testing.assert_array_equal(model.run(x=x, c=True, trips=20)[0], x * 41)
    np.testing.assert_array_equal(model.run(x=x, c=False, trips=20)[0], x * 2)

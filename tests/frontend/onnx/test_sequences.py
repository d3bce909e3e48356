"""Sequences whose length only the run knows: parts of an axis, and what a loop appends."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Import = Callable[..., Any]

APPENDING = """
    g (float[N, 2] x, int64 trips) => (y, last) {
        none = SequenceEmpty()
        zero = Constant<value_floats = [0.0, 0.0]>()
        last, items = Loop(trips, , zero, none) <
            body = b (int64 i, bool c, float[2] s, seq(float[2]) q) => (d, t, r) {
            d = Identity(c)
            row = Gather(x, i)
            t = Add(s, row)
            r = SequenceInsert(q, t)
            }
        >
        USE
    }"""


def appending(use: str) -> str:
    return APPENDING.replace("USE", use)


@pytest.mark.parametrize("trips", [1, 4, 40])
def test_items_that_a_loop_appends_are_stacked(imported: Import, trips: int):
    model = imported(appending("y = ConcatFromSequence<axis = 1, new_axis = 1>(items)"))
    assert model.ops["loop"] == 1
    x = np.random.default_rng(1).standard_normal((trips, 2)).astype("f")
    y, last = model.run(x=x, trips=trips)
    np.testing.assert_allclose(y, np.cumsum(x, 0).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, x.sum(0), rtol=1e-5, atol=1e-6)


def test_items_that_a_loop_appends_are_joined_in_order(imported: Import):
    model = imported(appending("y = ConcatFromSequence<axis = 0>(items)"))
    x = np.random.default_rng(2).standard_normal((5, 2)).astype("f")
    np.testing.assert_allclose(
        model.run(x=x, trips=5)[0], np.cumsum(x, 0).reshape(-1), rtol=1e-5, atol=1e-6
    )


def test_length_and_items_of_what_a_loop_appends(imported: Import):
    model = imported(
        appending("""
        n = SequenceLength(items)
        minus = Constant<value_int = -2>()
        item = SequenceAt(items, minus)
        f = Cast<to = 1>(n)
        y = Add(item, f)""")
    )
    x = np.arange(8, dtype="f").reshape(4, 2)
    np.testing.assert_allclose(model.run(x=x, trips=4)[0], np.cumsum(x, 0)[-2] + 4)


def test_both_branches_may_append(imported: Import):
    model = imported("""
    g (float[N] x, int64 trips) => (y) {
        none = SequenceEmpty()
        items = Loop(trips, , none) <body = b (int64 i, bool c, seq(float) q) => (d, r) {
            d = Identity(c)
            v = Gather(x, i)
            zero = Constant<value_float = 0.0>()
            positive = Greater(v, zero)
            r = If(positive) <
                then_branch = t () => (a) { a = SequenceInsert(q, v) },
                else_branch = e () => (b) { w = Neg(v) b = SequenceInsert(q, w) }
            >
        }>
        y = ConcatFromSequence<axis = 0, new_axis = 1>(items)
    }""")
    x = np.array([1, -2, 3, -4], "f")
    np.testing.assert_array_equal(model.run(x=x, trips=4)[0], np.abs(x))


@pytest.mark.parametrize(
    "append",
    [
        "r = SequenceInsert(q, v) n = SequenceLength(q)",
        "first = Constant<value_int = 0>() r = SequenceInsert(q, v, first)",
        "p = SequenceInsert(q, v) r = SequenceInsert(p, v)",
        "r = Identity(q)",
    ],
    ids=["length", "front", "twice", "nothing"],
)
def test_other_uses_inside_the_loop_need_known_iterations(imported: Import, append: str):
    with pytest.raises(CompileError, match="E0405") as refusal:
        imported(f"""
        g (float[N] x, int64 trips) => (y) {{
            none = SequenceEmpty()
            items = Loop(trips, , none) <body = b (int64 i, bool c, seq(float) q) => (d, r) {{
                d = Identity(c)
                v = Gather(x, i)
                {append}
            }}>
            y = ConcatFromSequence<axis = 0, new_axis = 1>(items)
        }}""")
    assert ("decided by", "'trips'") in refusal.value.facts


def test_slices_of_an_axis_of_open_length(imported: Import):
    model = imported("""
    g (float[2, N, 3] x) => (first, turned, n, joined) {
        items = SplitToSequence<axis = 1, keepdims = 0>(x)
        zero = Constant<value_int = 0>()
        first = SequenceAt(items, zero)
        turned = ConcatFromSequence<axis = 0, new_axis = 1>(items)
        n = SequenceLength(items)
        kept = SplitToSequence<axis = 1>(x)
        joined = ConcatFromSequence<axis = -1>(kept)
    }""")
    x = np.arange(24, dtype="f").reshape(2, 4, 3)
    first, turned, n, joined = model.run(x=x)
    np.testing.assert_array_equal(first, x[:, 0])
    np.testing.assert_array_equal(turned, x.transpose(1, 0, 2))
    assert n == 4
    np.testing.assert_array_equal(joined, x.reshape(2, 1, 12))


def test_a_sequence_of_open_length_cannot_be_an_output(imported: Import):
    with pytest.raises(CompileError, match="E0402") as refusal:
        imported("g (float[N] x) => (y) { y = SplitToSequence<keepdims = 0>(x) }")
    assert ("length", "N") in [(k, str(v)) for k, v in refusal.value.facts]

"""Arithmetic on sizes is done while a model is imported and leaves no operator behind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Import = Callable[..., Any]


def test_a_chain_of_shape_gather_concat_reshape_vanishes(imported: Import):
    model = imported("""
    g (float[B, S, 768] x) => (y) {
        shape = Shape(x)
        zero = Constant<value_int = 0>()
        one = Constant<value_int = 1>()
        axis = Constant<value_ints = [0]>()
        heads = Constant<value_ints = [12, 64]>()
        b = Gather(shape, zero)
        s = Gather(shape, one)
        b1 = Unsqueeze(b, axis)
        s1 = Unsqueeze(s, axis)
        target = Concat<axis = 0>(b1, s1, heads)
        y = Reshape(x, target)
    }""")
    assert model.ops == {"reshape": 1}
    assert model.outputs == ["B, S, 12, 64"]


def test_an_open_size_of_a_reshape_is_divided_out(imported: Import):
    model = imported("""
    g (float[B, S, 768] x) => (y) {
        target = Constant<value_ints = [0, -1, 12, 64]>()
        y = Reshape(x, target)
    }""")
    assert model.outputs == ["B, S, 12, 64"]


def test_halves_of_a_size_stay_expressions(imported: Import):
    model = imported("""
    g (float[N] x) => (y) {
        n = Shape(x)
        two = Constant<value_ints = [2]>()
        half = Div(n, two)
        zero = Constant<value_ints = [0]>()
        y = Slice(x, zero, half)
    }""")
    assert model.ops == {"slice": 1}
    np.testing.assert_array_equal(model.run(x=np.arange(7, dtype="f"))[0], [0, 1, 2])


def test_the_expand_idiom_of_exporters_vanishes(imported: Import):
    # torch writes -1 for "keep", and replaces it with Where(Equal(shape, -1), 1, shape).
    model = imported("""
    g (float[1, S] x, float[B, 4] like) => (y) {
        batch = Shape<end = 1>(like)
        keep = Constant<value_ints = [-1]>()
        shape = Concat<axis = 0>(batch, keep)
        rank = Shape(shape)
        ones = ConstantOfShape<value = int64[1] {1}>(rank)
        minus = Constant<value_ints = [-1]>()
        open = Equal(shape, minus)
        target = Where(open, ones, shape)
        y = Expand(x, target)
    }""")
    assert model.ops == {"expand": 1}
    assert model.outputs == ["B, S"]


def test_positions_are_one_iota(imported: Import):
    model = imported("""
    g (int64[B, S] ids) => (y) {
        size = Shape<start = 1, end = 2>(ids)
        axis = Constant<value_ints = [0]>()
        limit = Squeeze(size, axis)
        zero = Constant<value_int = 0>()
        one = Constant<value_int = 1>()
        y = Range(zero, limit, one)
    }""")
    assert model.ops == {"iota": 1}
    assert model.outputs == ["S"]


def test_a_size_used_as_a_number_becomes_a_tensor(imported: Import):
    model = imported("""
    g (float[N, 3] x) => (y) {
        n = Size(x)
        f = Cast<to = 1>(n)
        y = Div(x, f)
    }""")
    assert model.ops["dim_values"] == 1
    np.testing.assert_allclose(model.run(x=np.full((2, 3), 6, "f"))[0], 1)


def test_what_is_known_of_a_shape_that_data_decides_is_kept(imported: Import):
    # Only the first size comes from data: the others stay numbers in the type.
    model = imported("""
    g (float[N] x, int64[1] n) => (y) {
        rest = Constant<value_ints = [2, 3]>()
        shape = Concat<axis = 0>(n, rest)
        y = Reshape(x, shape)
    }""")
    assert model.outputs[0].endswith(", 2, 3")
    assert model.run(x=np.zeros(24, "f"), n=[4])[0].shape == (4, 2, 3)
    assert model.run(x=np.zeros(24, "f"), n=[-1])[0].shape == (4, 2, 3)


def test_numbers_are_folded_through_any_operator(imported: Import):
    model = imported("""
    g (float[2] x) => (y) {
        a = Constant<value_floats = [1.0, 4.0]>()
        root = Sqrt(a)
        total = ReduceSum<keepdims = 0>(root)
        y = Mul(x, total)
    }""")
    assert model.ops == {"constant": 1, "map": 1}
    np.testing.assert_array_equal(model.run(x=np.ones(2, "f"))[0], [3, 3])


def test_large_weights_are_not_folded(imported: Import):
    model = imported("""
    g (float[300, 300] x) => (y) {
        shape = Constant<value_ints = [300, 300]>()
        ones = ConstantOfShape<value = float[1] {1.0}>(shape)
        y = Add(x, ones)
    }""")
    assert model.ops == {"constant": 1, "expand": 1, "map": 1}


@pytest.mark.parametrize(
    ("bounds", "size"), [("[-3], [9223372036854775807]", "3"), ("[1], [-1]", "N - 2")]
)
def test_slices_from_the_end_keep_exact_sizes(imported: Import, bounds: str, size: str):
    first, last = bounds.split(", ")
    model = imported(
        f"""
    g (float[N] x) => (y) {{
        first = Constant<value_ints = {first}>()
        last = Constant<value_ints = {last}>()
        y = Slice(x, first, last)
    }}""",
        dims={"N": (8, 64)},
    )
    assert model.outputs == [size]

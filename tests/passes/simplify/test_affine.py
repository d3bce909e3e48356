"""Scales and shifts by constants end in the weights of products."""

from typing import Any

import numpy as np
import pytest

from tapeout.passes.simplify.affine import FoldAffine

ALL = [FoldAffine()]


def per_channel(g: Any, n: Any, rank: Any = 4) -> Any:
    return g.fixed(np.abs(g.random.standard_normal((n, *[1] * (rank - 2)))) + 0.5)


def batch_norm(g: Any, y: Any, n: Any) -> Any:
    return g.map("add", g.map("mul", y, per_channel(g, n)), per_channel(g, n))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_batch_norm_after_a_convolution_folds(graph: Any, check: Any, groups: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = batch_norm(g, g.conv(g["x"], 12, 3, groups=groups), 12)
    left = check(g.returning(y), ALL, {"B": 2, "S": 7}, {"B": 1, "S": 1}, rtol=1e-5)
    assert left == {"conv": 1}


def test_two_scale_layers_behind_a_batch_norm_fold_too(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = batch_norm(g, batch_norm(g, g.conv(g["x"], 8, 1), 8), 8)
    assert check(g.returning(y), ALL, {"B": 2, "S": 7}, rtol=1e-5) == {"conv": 1}


def test_subtraction_and_division_fold_as_well(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = g.map("div", g.map("sub", g.conv(g["x"], 8, 1), per_channel(g, 8)), per_channel(g, 8))
    assert check(g.returning(y), ALL, {"B": 2, "S": 7}, rtol=1e-5) == {"conv": 1}


def test_one_number_for_all_channels_folds(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = g.map("add", g.map("mul", g.conv(g["x"], 8, 3), g.fixed(0.1)), g.fixed(3))
    assert check(g.returning(y), ALL, {"B": 2, "S": 7}, rtol=1e-5) == {"conv": 1}


def test_a_convolution_with_a_second_reader_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = g.conv(g["x"], 8, 3)
    left = check(g.returning(y, batch_norm(g, y, 8)), ALL, {"B": 2, "S": 7})
    assert left == {"conv": 1, "mul": 1, "add": 1}


def test_a_scale_along_another_axis_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, 5, 5")
    y = g.map("mul", g.conv(g["x"], 5, 3), g.fixed(np.arange(1.0, 6.0)))
    assert check(g.returning(y), ALL, {"B": 2}) == {"conv": 1, "mul": 1}


def test_a_batch_norm_in_front_of_relu_and_convolution_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = g.conv(g.map("relu", batch_norm(g, g["x"], 6)), 8, 3)
    assert check(g.returning(y), ALL, {"B": 2, "S": 7}).total() == 4


def test_scales_without_a_product_become_one(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S, 5")
    y = batch_norm(g, batch_norm(g, g["x"], 6), 6)
    left = check(g.returning(y), ALL, {"B": 2, "S": 7}, rtol=1e-5)
    assert left == {"mul": 1, "add": 1}


@pytest.mark.parametrize("transposed", [False, True])
def test_a_scale_of_columns_folds_into_a_matrix(graph: Any, check: Any, transposed: Any) -> None:
    g = graph(x="f32 B, S, 16")
    w = g.weight(*((24, 16) if transposed else (16, 24)))
    y = g.map("mul", g.matmul(g["x"], w, transpose_b=transposed), g.fixed(np.arange(24.0)))
    left = check(g.returning(y), ALL, {"B": 2, "S": 3}, {"B": 1, "S": 1}, rtol=1e-5)
    assert left == {"matmul": 1}


def test_a_matrix_with_a_second_reader_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 16", z="f32 B, 16")
    w = g.weight(16, 24)
    y = g.map("mul", g.matmul(g["x"], w), g.fixed(2.5))
    left = check(g.returning(y, g.matmul(g["z"], w)), ALL, {"B": 2})
    assert left == {"matmul": 2, "mul": 1}


def test_constants_that_would_overflow_together_stay_apart(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4")
    y = g.map("mul", g.map("mul", g["x"], g.fixed(1e30)), g.fixed(1e30))
    assert check(g.returning(y), ALL, {"B": 2}) == {"mul": 2}

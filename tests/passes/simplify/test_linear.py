"""Linear layers lose the reshapes around them."""

from typing import Any

from tapeout.passes.simplify.canonical import Canonicalise

ALL = [Canonicalise()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 67})


def test_rows_flattened_for_a_product_stay_apart(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 16")
    flat = g.shaped(g["x"], "B*S, 16")
    y = g.shaped(g.matmul(flat, g.weight(16, 24)), "B, S, 24")
    assert check(g.returning(y), ALL, *SIZES) == {"matmul": 1}


def test_a_bias_and_an_activation_in_between_do_not_hinder(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 16")
    y = g.map("add", g.matmul(g.shaped(g["x"], "B*S, 16"), g.weight(16, 24)), g.weight(24))
    y = g.shaped(g.map("relu", y), "B, S, 24")
    z = g.map("add", g.matmul(g.shaped(y, "B*S, 24"), g.weight(24, 8)), g.weight(8))
    left = check(g.returning(g.shaped(z, "B, S, 8")), ALL, *SIZES)
    assert left == {"matmul": 2, "add": 2, "relu": 1}


def test_columns_split_into_heads_keep_one_reshape(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 16")
    y = g.matmul(g.shaped(g["x"], "B*S, 16"), g.weight(16, 24))
    assert check(g.returning(g.shaped(y, "B, S, 4, 6")), ALL, *SIZES) == {"matmul": 1, "reshape": 1}


def test_heads_merged_and_rows_flattened_are_one_reshape(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 4, 6")
    y = g.shaped(g.matmul(g.shaped(g["x"], "B*S, 24"), g.weight(24, 8)), "B, S, 8")
    assert check(g.returning(y), ALL, *SIZES) == {"matmul": 1, "reshape": 1}


def test_a_product_whose_rows_are_read_flat_too_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 16")
    y = g.matmul(g.shaped(g["x"], "B*S, 16"), g.weight(16, 24))
    left = check(g.returning(y, g.shaped(y, "B, S, 24")), ALL, *SIZES)
    assert left == {"matmul": 1, "reshape": 2}


def test_rows_mixed_with_columns_stay(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, 16")
    y = g.matmul(g.shaped(g["x"], "B*6, 16"), g.weight(16, 24))
    assert check(g.returning(g.shaped(y, "B*3, 48")), ALL, *SIZES)["reshape"] == 2

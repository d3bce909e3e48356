"""Identities of elementwise functions: each fires where it holds, and nowhere else."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import boolean, f16, f32, f64, i64
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.passes.simplify.canonical import Canonicalise

ALL = [Canonicalise()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 130})


@pytest.mark.parametrize(
    ("fn", "value"),
    [("add", 0), ("sub", 0), ("mul", 1), ("div", 1), ("pow", 1), ("max", -np.inf), ("min", np.inf)],
)
def test_a_neutral_operand_goes(graph: Any, check: Any, fn: Any, value: Any) -> None:
    g = graph(x="f32 B, S")
    module = g.returning(g.map(fn, g["x"], g.fixed(value)))
    assert not check(module, ALL, *SIZES)


@pytest.mark.parametrize(
    ("fn", "value"), [("add", 1), ("mul", 0), ("sub", 1e-30), ("max", 1), ("div", 3)]
)
def test_any_other_operand_stays(graph: Any, check: Any, fn: Any, value: Any) -> None:
    g = graph(x="f32 B, S")
    assert check(g.returning(g.map(fn, g["x"], g.fixed(value))), ALL, *SIZES)[fn] == 1


def test_a_neutral_operand_on_the_left_of_a_difference_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    left = check(g.returning(g.map("sub", g.fixed(0), g["x"])), ALL, *SIZES)
    assert left == {"neg": 1}


def test_a_neutral_operand_that_widens_becomes_an_expansion(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 1")
    wide = g.fixed(np.zeros((1, 7)))
    left = check(g.returning(g.map("add", g["x"], wide)), ALL, {"B": 3})
    assert left == {"expand": 1}


def test_where_with_a_fixed_condition_picks(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S", z="f32 1, S")
    chosen = g.map("where", g.fixed(False, "bool"), g["x"], g["z"])
    assert check(g.returning(chosen), ALL, *SIZES) == {"expand": 1}


def test_where_with_a_mixed_condition_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 2", z="f32 B, 2")
    chosen = g.map("where", g.fixed([True, False], "bool"), g["x"], g["z"])
    assert check(g.returning(chosen), ALL, {"B": 3}) == {"where": 1}


def test_where_of_not_swaps_and_where_of_truths_is_the_condition(graph: Any, check: Any) -> None:
    g = graph(c="bool B, S", x="f32 B, S")
    flipped = g.map("where", g.map("not", g["c"]), g["x"], g.fixed(3))
    truth = g.map("where", g["c"], g.fixed(False, "bool"), g.fixed(True, "bool"))
    left = check(g.returning(flipped, g.convert(truth, f32)), ALL, *SIZES)
    assert left == {"where": 1, "not": 1, "convert": 1}


def test_involutions_and_idempotent_functions_collapse(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = g["x"]
    for fn in ("neg", "neg", "relu", "relu", "floor", "floor"):
        y = g.map(fn, y)
    assert check(g.returning(y), ALL, *SIZES) == {"relu": 1, "floor": 1}


@pytest.mark.parametrize("order", ["max first", "min first"])
def test_both_orders_of_a_clip_become_one(graph: Any, check: Any, order: Any) -> None:
    g = graph(x="f32 B, S")
    y, low, high = g["x"], g.fixed(0), g.fixed(0.5)
    steps = [("max", low), ("min", high)]
    for fn, bound in steps if order == "max first" else steps[::-1]:
        y = g.map(fn, y, bound)
    assert check(g.returning(y), ALL, *SIZES) == {"relu": 1, "min": 1}


def test_a_clip_with_crossed_bounds_keeps_its_order(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = g.map("max", g.map("min", g["x"], g.fixed(-2)), g.fixed(1))
    assert check(g.returning(y), ALL, *SIZES) == {"min": 1, "max": 1}


def test_small_powers_are_products(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = g.map("pow", g.map("pow", g["x"], g.fixed(2)), g.fixed(3))
    assert "pow" not in check(g.returning(y), ALL, *SIZES, rtol=1e-5)


def test_other_powers_stay(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = g.map("pow", g.map("abs", g["x"]), g.fixed(0.75))
    assert check(g.returning(y), ALL, *SIZES)["pow"] == 1


def test_division_by_a_power_of_two_is_a_product_and_by_three_is_not(
    graph: Any, check: Any
) -> None:
    g = graph(x="f32 B, S")
    y = g.map("div", g.map("div", g["x"], g.fixed(8)), g.fixed(3))
    left = check(g.returning(y), ALL, *SIZES, rtol=0, atol=0)
    assert left == {"mul": 1, "div": 1}


def test_one_over_a_root_is_rsqrt(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = g.map("div", g.fixed(1), g.map("sqrt", g.map("abs", g["x"])))
    assert check(g.returning(y), ALL, *SIZES) == {"abs": 1, "rsqrt": 1}


def test_a_uniform_constant_is_held_once(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4")
    module = g.returning(g.map("mul", g["x"], g.fixed(np.full(4, 3.0))))
    check(module, ALL, {"B": 2})
    sizes = [op.value.data.array.size for op in module.ir.walk() if op.name == "nn.constant"]
    assert sizes == [1]


def test_a_widening_conversion_and_back_goes_and_a_narrowing_one_stays(
    graph: Any, check: Any
) -> None:
    g = graph(x="f32 B, S", h="f16 B, S")
    wide = g.convert(g.convert(g["x"], f64), f32)
    narrow = g.convert(g.convert(g["x"], f16), f32)
    half = g.convert(g.convert(g["h"], f32), f16)
    assert check(g.returning(wide, narrow, half), ALL, *SIZES) == {"convert": 2}


def test_conversion_through_bool_stays(graph: Any, check: Any) -> None:
    g = graph(x="i64 B, S")
    y = g.op(ConvertOp, g.op(ConvertOp, g["x"], to=boolean), to=i64)
    assert check(g.returning(y), ALL, *SIZES) == {"convert": 2}


def test_positions_are_never_negative(graph: Any, check: Any) -> None:
    g = graph(x="bool B, S")
    positions = g.iota([1, g.entry.body.block.args[0].type.data.dims[1]], 1)
    sound = g.map("ge", positions, g.fixed(0, "i64"))
    assert not check(g.returning(g.map("and", sound, g["x"])), ALL, *SIZES)


def test_a_test_of_positions_against_more_than_zero_stays(graph: Any, check: Any) -> None:
    g = graph(x="bool B, S")
    positions = g.iota([1, g.entry.body.block.args[0].type.data.dims[1]], 1)
    late = g.map("ge", positions, g.fixed(1, "i64"))
    assert check(g.returning(g.map("and", late, g["x"])), ALL, *SIZES)["ge"] == 1


def test_integers_keep_their_division_and_power(graph: Any, check: Any) -> None:
    g = graph(x="i64 B, S")
    y = g.map("div", g.map("pow", g["x"], g.fixed(2, "i64")), g.fixed(4, "i64"))
    assert check(g.returning(y), ALL, *SIZES) == {"pow": 1, "div": 1}

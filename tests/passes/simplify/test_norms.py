"""Softmax, layer norm and RMS norm are found in what exporters write out."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f16, f32
from tapeout.ir.types import spec
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.common import CommonSubexpressions
from tapeout.passes.simplify.norms import RecomposeNorms

ALL = [Canonicalise(), CommonSubexpressions(), RecomposeNorms()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 67})


def normed(
    g: Any,
    x: Any,
    axes: Any = (2,),
    square: Any = "pow",
    root: Any = "div",
    epsilon: Any = 1e-5,
    centred: Any = True,
) -> Any:
    """A written-out norm: how the square and the root are spelled is the exporter's."""
    d = g.map("sub", x, g.mean(x, axes)) if centred else x
    power = g.map("pow", d, g.fixed(2)) if square == "pow" else g.map("mul", d, d)
    under = g.map("add", g.mean(power, axes), g.fixed(epsilon))
    match root:
        case "div":
            return g.map("div", d, g.map("sqrt", under))
        case "reciprocal":
            return g.map("mul", d, g.map("reciprocal", g.map("sqrt", under)))
        case "one over":
            return g.map("mul", g.map("div", g.fixed(1), g.map("sqrt", under)), d)
        case _:
            return g.map("mul", d, g.map("rsqrt", under))


FORMS = [(s, r) for s in ("pow", "mul") for r in ("div", "reciprocal", "one over", "rsqrt")]


@pytest.mark.parametrize(("square", "root"), FORMS)
@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_is_found_in_every_spelling(
    graph: Any, check: Any, square: Any, root: Any, centred: Any
) -> None:
    g = graph(x="f32 B, S, 24")
    y = normed(g, g["x"], square=square, root=root, centred=centred)
    y = g.map("mul", y, g.weight(24))
    y = g.map("add", y, g.weight(24)) if centred else y
    left = check(g.returning(y), ALL, *SIZES, rtol=2e-5)
    assert left == {"layer_norm" if centred else "rms_norm": 1}


def test_the_scale_may_stand_on_the_left_with_leading_ones(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24")
    y = g.map("mul", g.fixed(np.arange(24.0).reshape(1, 1, 24)), normed(g, g["x"], centred=False))
    assert check(g.returning(y), ALL, *SIZES, rtol=2e-5) == {"rms_norm": 1}


def test_a_scale_that_an_input_gives_is_taken_in(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24", w="f32 24")
    y = g.map("mul", normed(g, g["x"]), g["w"])
    assert check(g.returning(y), ALL, *SIZES, rtol=2e-5) == {"layer_norm": 1}


def test_a_scale_per_row_stays_outside(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24", w="f32 S, 1")
    y = g.map("mul", normed(g, g["x"]), g["w"])
    assert check(g.returning(y), ALL, *SIZES, rtol=2e-5) == {"layer_norm": 1, "mul": 1}


def test_a_norm_over_several_last_axes_is_found(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, 24")
    left = check(g.returning(normed(g, g["x"], axes=(1, 2))), ALL, {"B": 3}, rtol=2e-5)
    assert left == {"layer_norm": 1}


def test_a_norm_over_a_length_that_varies_is_found(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S")
    assert check(g.returning(normed(g, g["x"])), ALL, *SIZES, rtol=2e-4)["layer_norm"] == 1


def test_a_norm_over_a_middle_axis_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 6, S")
    left = check(g.returning(normed(g, g["x"], axes=(1,))), ALL, *SIZES, rtol=2e-5)
    assert "layer_norm" not in left


def test_a_mean_by_another_count_is_no_norm(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24")
    d = g.map("sub", g["x"], g.mean(g["x"], (2,)))
    total = g.reduce("sum", g.map("mul", d, d), (2,))
    under = g.map("add", g.map("div", total, g.fixed(23)), g.fixed(1e-5))
    left = check(g.returning(g.map("div", d, g.map("sqrt", under))), ALL, *SIZES, rtol=2e-5)
    assert "layer_norm" not in left


def test_the_deviation_of_something_else_is_no_norm(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24", z="f32 B, S, 24")
    under = g.map("add", g.mean(g.map("mul", g["z"], g["z"]), (2,)), g.fixed(1e-5))
    left = check(g.returning(g.map("div", g["x"], g.map("sqrt", under))), ALL, *SIZES, rtol=2e-5)
    assert "rms_norm" not in left


def test_a_mean_with_another_reader_keeps_its_value(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24")
    mean = g.mean(g["x"], (2,))
    left = check(g.returning(normed(g, g["x"]), mean), ALL, *SIZES, rtol=2e-5)
    assert left["layer_norm"] == 1
    assert left["reduce"] == 1


def test_a_half_precision_norm_computed_wide_is_one_operator(graph: Any, check: Any) -> None:
    g = graph(x="f16 B, S, 24")
    wide = normed(g, g.convert(g["x"], f32), centred=False)
    left = check(g.returning(g.convert(wide, f16)), ALL, *SIZES, rtol=2e-3)
    assert left == {"rms_norm": 1}


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("shifted", [True, False])
def test_softmax_is_found_with_and_without_its_maximum(
    graph: Any, check: Any, axis: Any, shifted: Any
) -> None:
    g = graph(x="f32 B, S, 24")
    x = g["x"]
    power = g.map("exp", g.map("sub", x, g.reduce("max", x, (axis,))) if shifted else x)
    y = g.map("div", power, g.reduce("sum", power, (axis,)))
    assert check(g.returning(y), ALL, *SIZES) == {"softmax": 1}


def test_a_quotient_by_the_sum_along_two_axes_is_no_softmax(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24")
    power = g.map("exp", g["x"])
    y = g.map("div", power, g.reduce("sum", power, (1, 2)))
    assert "softmax" not in check(g.returning(y), ALL, *SIZES)


def test_a_maximum_along_another_axis_is_not_taken_for_the_shift(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 24")
    power = g.map("exp", g.map("sub", g["x"], g.reduce("max", g["x"], (1,))))
    y = g.map("div", power, g.reduce("sum", power, (2,)))
    left = check(g.returning(y), ALL, *SIZES)
    assert left["softmax"] == 1
    assert left["sub"] == 1
    assert spec(y).rank == 3

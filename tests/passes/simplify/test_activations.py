"""Activations are found in every spelling, and never in one that only looks alike."""

import math
from typing import Any

import pytest

from tapeout.ir.dtypes import f32
from tapeout.passes.simplify.activations import RecomposeActivations
from tapeout.passes.simplify.canonical import Canonicalise

ALL = [Canonicalise(), RecomposeActivations()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 130})
ROOT = math.sqrt(2 / math.pi)


def erf_gate(g: Any, x: Any, divide: Any = True) -> Any:
    inner = (
        g.map("div", x, g.fixed(math.sqrt(2)))
        if divide
        else g.map("mul", g.fixed(math.sqrt(0.5)), x)
    )
    return g.map("add", g.map("erf", inner), g.fixed(1))


def tanh_gate(g: Any, x: Any, form: Any, factor: Any = 0.044715) -> Any:
    c = g.fixed

    def m(a: Any, b: Any) -> Any:
        return g.map("mul", a, b)

    cube = {
        "pow": lambda: m(c(factor), g.map("pow", x, c(3))),
        "products": lambda: m(m(m(x, x), x), c(factor)),
        "factor first": lambda: m(m(m(c(factor), x), x), x),
    }
    if form == "factored":
        body = m(x, g.map("add", c(1), m(c(factor), m(x, x))))
    elif form == "scaled factored":
        inner = m(m(x, c(ROOT)), g.map("add", m(m(c(factor), x), x), c(1)))
        return g.map("add", g.map("tanh", inner), c(1))
    else:
        body = g.map("add", x, cube[form]())
    return g.map("add", c(1), g.map("tanh", m(c(ROOT), body)))


def half_products(g: Any, x: Any, gate: Any) -> Any:
    """Every association of ``0.5 * x * gate``."""
    half = g.fixed(0.5)

    def m(a: Any, b: Any) -> Any:
        return g.map("mul", a, b)

    return {
        "(x gate) half": m(m(x, gate), half),
        "(x half) gate": m(m(x, half), gate),
        "x (gate half)": m(x, m(gate, half)),
        "half (gate x)": m(half, m(gate, x)),
        "gate (half x)": m(gate, m(half, x)),
        "gate x / 2": g.map("div", m(gate, x), g.fixed(2)),
    }


ORDERS = [
    "(x gate) half",
    "(x half) gate",
    "x (gate half)",
    "half (gate x)",
    "gate (half x)",
    "gate x / 2",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("divide", [True, False])
def test_gelu_by_erf_is_found_however_its_products_are_associated(
    graph: Any, check: Any, order: Any, divide: Any
) -> None:
    g = graph(x="f32 B, S")
    y = half_products(g, g["x"], erf_gate(g, g["x"], divide))[order]
    assert check(g.returning(y), ALL, *SIZES) == {"gelu": 1}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("form", ["pow", "products", "factor first", "factored", "scaled factored"])
def test_gelu_by_tanh_is_found_in_every_form_of_its_cubic(
    graph: Any, check: Any, order: Any, form: Any
) -> None:
    g = graph(x="f32 B, S")
    y = half_products(g, g["x"], tanh_gate(g, g["x"], form))[order]
    assert check(g.returning(y), ALL, *SIZES) == {"gelu_tanh": 1}


@pytest.mark.parametrize("fn", ["erf", "tanh"])
def test_gelu_with_halves_inside_is_found(graph: Any, check: Any, fn: Any) -> None:
    g = graph(x="f32 B, S")
    gate = erf_gate(g, g["x"]) if fn == "erf" else tanh_gate(g, g["x"], "pow")
    inner = next(v for v in gate.owner.operands if v.owner.name == "nn.map")
    halved = g.map("add", g.map("mul", inner, g.fixed(0.5)), g.fixed(0.5))
    left = check(g.returning(g.map("mul", g["x"], halved)), ALL, *SIZES)
    assert left == {"gelu" if fn == "erf" else "gelu_tanh": 1}


@pytest.mark.parametrize("factor", [0.0447, 0.05])
def test_another_cubic_is_no_gelu(graph: Any, check: Any, factor: Any) -> None:
    g = graph(x="f32 B, S")
    y = half_products(g, g["x"], tanh_gate(g, g["x"], "pow", factor))["(x gate) half"]
    assert "gelu_tanh" not in check(g.returning(y), ALL, *SIZES, rtol=1e-5)


def test_erf_of_another_argument_is_no_gelu(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S", z="f32 B, S")
    scaled = g.map("add", g.map("erf", g["x"]), g.fixed(1))
    other = half_products(g, g["z"], erf_gate(g, g["x"]))["(x gate) half"]
    plain = half_products(g, g["x"], scaled)["(x gate) half"]
    assert "gelu" not in check(g.returning(other, plain), ALL, *SIZES)


def test_a_gate_with_another_reader_keeps_its_value(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    gate = erf_gate(g, g["x"])
    y = g.map("mul", g.fixed(0.5), g.map("mul", g["x"], gate))
    left = check(g.returning(y, gate), ALL, *SIZES)
    assert left["gelu"] == 1
    assert left["erf"] == 1


def test_silu_and_sigmoid_are_found_in_their_forms(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    x = g["x"]

    def m(a: Any, b: Any) -> Any:
        return g.map("mul", a, b)

    bottom = g.map("add", g.fixed(1), g.map("exp", g.map("neg", x)))
    forms = [m(x, g.map("sigmoid", x)), m(g.map("sigmoid", x), x), g.map("div", x, bottom)]
    left = check(g.returning(*forms, g.map("div", g.fixed(1), bottom)), ALL, *SIZES)
    assert left == {"silu": 3, "sigmoid": 1}


def test_a_product_with_the_sigmoid_of_another_is_no_silu(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S", z="f32 B, S")
    y = g.map("mul", g["x"], g.map("sigmoid", g["z"]))
    assert check(g.returning(y), ALL, *SIZES) == {"sigmoid": 1, "mul": 1}


def test_softplus_and_mish_are_found(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    plus = g.map("log", g.map("add", g.map("exp", g["x"]), g.fixed(1)))
    y = g.map("mul", g["x"], g.map("tanh", plus))
    assert check(g.returning(y), [*ALL, *ALL], *SIZES) == {"mish": 1}


def test_half_precision_constants_are_recognised(graph: Any, check: Any) -> None:
    g = graph(x="f16 B, S")
    x = g["x"]

    def c(value: Any) -> Any:
        return g.fixed(value, "f16")

    inner = g.map("mul", x, c(math.sqrt(0.5)))
    gate = g.map("add", g.map("erf", inner), c(1))
    y = g.map("mul", g.map("mul", x, gate), c(0.5))
    assert check(g.returning(g.convert(y, f32)), ALL, *SIZES, rtol=2e-3) == {
        "gelu": 1,
        "convert": 1,
    }

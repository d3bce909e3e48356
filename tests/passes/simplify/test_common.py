"""Common subexpressions and dead code."""

from typing import Any

import numpy as np

from tapeout.ir.expr import symbol
from tapeout.ir.ops.sort import NonZeroOp
from tapeout.passes.simplify.common import CommonSubexpressions
from tapeout.passes.simplify.dead import DropDead

ALL = [CommonSubexpressions()]


def test_equal_operators_run_once(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    y = [g.map("exp", g.map("neg", g["x"])) for _ in range(3)]
    assert check(g.returning(*y), ALL, {"B": 2, "S": 3}) == {"neg": 1, "exp": 1}


def test_other_attributes_or_operands_keep_operators_apart(graph: Any, check: Any) -> None:
    g = graph(x="f32 4, 4", z="f32 4, 4")
    y = [g.reduce("sum", v, (axis,)) for v in (g["x"], g["z"]) for axis in (0, 1)]
    assert check(g.returning(*y), ALL) == {"reduce": 4}


def test_weights_of_equal_content_are_one(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 300")
    array = np.arange(300.0)
    y = [g.map(fn, g["x"], g.fixed(array)) for fn in ("add", "mul")]
    module = g.returning(*y)
    check(module, ALL, {"B": 2})
    assert sum(op.name == "nn.weight" for op in module.ir.walk()) == 1


def test_zero_and_minus_zero_are_two_constants(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 1")
    one = g.map("div", g.fixed(1.0), g.fixed(0.0))
    two = g.map("div", g.fixed(1.0), g.fixed(-0.0))
    assert check(g.returning(one, two, g["x"]), ALL, {"B": 1})["div"] == 2


def test_what_no_output_needs_goes(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    g.map("exp", g.map("neg", g["x"]))
    assert check(g.returning(g.map("abs", g["x"])), [DropDead()], {"B": 2, "S": 3}) == {"abs": 1}


def test_an_operator_that_gives_a_symbol_its_value_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    n = symbol("n")
    g.op(NonZeroOp, g["x"], count=(n,))
    y = g.expand(g.fixed(1.0), (n,))
    left = check(g.returning(y), [DropDead()], {"B": 2, "S": 3})
    assert left == {"non_zero": 1, "expand": 1}

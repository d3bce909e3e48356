"""The driver applies rules to the end, refuses what changes a type, and notices endless rules."""

from typing import Any

import pytest

from tapeout.ir.dtypes import f64
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


class ExpOfNeg(Pattern[MapOp]):
    root = MapOp
    fns = frozenset({"exp"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        inner = op.xs[0].owner
        if not isinstance(inner, MapOp) or inner.fn.data != "neg":
            return None
        return edit.map("reciprocal", edit.map("exp", inner.xs[0]))


class WidenNeg(Pattern[MapOp]):
    root = MapOp
    fns = frozenset({"neg"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        return edit.add(ConvertOp, op.xs[0], to=f64)


class AbsForever(Pattern[MapOp]):
    root = MapOp
    fns = frozenset({"abs"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        return edit.map("abs", edit.map("abs", op.xs[0]))


SIZES = {"B": 2, "S": 3}


def names(module: Any) -> list[str]:
    return [op.fn.data for op in module.ir.walk() if isinstance(op, MapOp)]


def test_rules_apply_until_none_does(graph: Any) -> None:
    g = graph(x="f32 B, S")
    y = g["x"]
    for _ in range(3):
        y = g.map("exp", g.map("neg", y))
    module = g.returning(y)
    assert drive(module, [ExpOfNeg()]) == 3
    assert names(module) == ["exp", "reciprocal"] * 3


def test_what_nothing_reads_goes_along(graph: Any) -> None:
    g = graph(x="f32 B, S")
    g.map("exp", g.map("neg", g["x"]))
    module = g.returning(g.map("abs", g["x"]))
    assert drive(module, []) == 0
    assert names(module) == ["abs"]


def test_a_replacement_of_another_type_is_refused_without_a_trace(graph: Any) -> None:
    g = graph(x="f32 B, S")
    module = g.returning(g.map("neg", g["x"]))
    before = str(module.ir)
    assert drive(module, [WidenNeg()]) == 0
    assert str(module.ir) == before


def test_a_rule_that_never_ends_is_named(graph: Any) -> None:
    g = graph(x="f32 B, S")
    module = g.returning(g.map("abs", g["x"]))
    with pytest.raises(AssertionError, match="AbsForever was last"):
        drive(module, [AbsForever()])

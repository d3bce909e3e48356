"""Comparisons of positions are decided where they hold for every index, and only there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.reduce import CumulativeOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.fold import Fold

ALL = [Canonicalise(), Fold(), Canonicalise()]
SIZES = ({"B": 2, "S": 5, "T": 9}, {"B": 1, "S": 1, "T": 1}, {"B": 1, "S": 33, "T": 40})
Condition = Callable[[Any, Any, Any], Any]

LOWEST = float(np.finfo(np.float32).min)


def sizes_of(g: Any) -> tuple[Expr, Expr]:
    batch, length = spec(g["x"]).dims
    return batch, length


def truth(g: Any, condition: Any) -> Any:
    """An output that shows the condition at every place."""
    return g.convert(condition, i64)


def decided(graph: Any, check: Any, fn: str, build: Callable[[Any], Any]) -> bool:
    """Whether comparing two values is decided while compiling."""
    g = graph(x="f32 B, S")
    a, b = build(g)
    left = check(g.returning(truth(g, g.map(fn, a, b))), ALL, *SIZES)
    return fn not in left


def counted(g: Any) -> Any:
    """``[1, S]``: 0, 1, 2, ..."""
    return g.reshape(g.iota((sizes_of(g)[1],), 0), (1, sizes_of(g)[1]))


def shifted(g: Any) -> Any:
    """``[B, S]`` positions minus one, as ``diff(prepend=first - 1)`` builds them."""
    b, s = sizes_of(g)
    wide = g.expand(counted(g), (b, s))
    first = g.map("sub", g.part(wide, 1, 0, 1), g.fixed(1, "i64"))
    return g.part(g.op(ConcatOp, [first, wide], axis=1), 1, 0, s)


def test_bounds_of_positions_decide(graph: Any, check: Any) -> None:
    def zero(g: Any) -> Any:
        return g.fixed(0, "i64")

    def many(g: Any) -> Any:
        return g.fixed(512, "i64")

    assert decided(graph, check, "ge", lambda g: (counted(g), zero(g)))
    assert decided(graph, check, "lt", lambda g: (counted(g), zero(g)))
    assert decided(graph, check, "lt", lambda g: (counted(g), many(g)))
    assert decided(graph, check, "eq", lambda g: (counted(g), many(g)))
    assert not decided(graph, check, "gt", lambda g: (counted(g), zero(g)))
    assert not decided(graph, check, "lt", lambda g: (counted(g), g.fixed(511, "i64")))
    assert not decided(graph, check, "ne", lambda g: (counted(g), zero(g)))


def test_differences_of_neighbours_are_one(graph: Any, check: Any) -> None:
    def build(g: Any) -> Any:
        return g.map("sub", counted(g), shifted(g)), g.fixed(1, "i64")

    assert decided(graph, check, "eq", build)
    assert decided(graph, check, "ne", build)


def test_a_break_in_the_positions_is_not_overlooked(graph: Any, check: Any) -> None:
    def build(g: Any) -> Any:
        b, s = sizes_of(g)
        wide = g.expand(counted(g), (b, s))
        again = g.part(g.op(ConcatOp, [wide, wide], axis=1), 1, 0, s + 1)
        return g.part(again, 1, 1, s), g.map("add", wide, g.fixed(1, "i64"))

    assert not decided(graph, check, "eq", build)


def test_a_running_sum_of_nothing_is_nothing(graph: Any, check: Any) -> None:
    def build(g: Any, step: int) -> Any:
        b, s = sizes_of(g)
        unequal = g.map("ne", g.map("sub", counted(g), shifted(g)), g.fixed(step, "i64"))
        count = g.op(CumulativeOp, g.op(ConvertOp, unequal, to=i64), fn="sum", axis=1)
        return g.reshape(count, (b, s, 1)), g.reshape(count, (b, 1, s))

    assert decided(graph, check, "eq", lambda g: build(g, 1))
    assert not decided(graph, check, "eq", lambda g: build(g, 2))


def test_positions_read_from_a_table_are_positions(graph: Any, check: Any) -> None:
    def build(g: Any, table: Any) -> Any:
        return g.part(g.fixed(table[None], "i64"), 1, 0, sizes_of(g)[1]), g.fixed(0, "i64")

    table = np.arange(512)
    assert decided(graph, check, "ge", lambda g: build(g, table))
    broken = table.copy()
    broken[300] = -1
    assert not decided(graph, check, "ge", lambda g: build(g, broken))


def test_values_of_an_input_decide_nothing(graph: Any, check: Any) -> None:
    g = graph(x="i64 B, S")
    condition = g.map("ge", g["x"], g.fixed(-100, "i64"))
    assert check(g.returning(truth(g, condition)), ALL, *SIZES)["ge"] == 1


def attended(graph: Any, condition: Condition, low: float | None, past: int = 0) -> Any:
    """Attention under a mask that ``condition`` builds from query and key positions."""
    g = graph(q="f32 B, 4, S, 8", k="f32 B, 4, T, 8")
    queries, keys = spec(g["q"]).dims[2], spec(g["k"]).dims[2]
    i = g.map("add", g.reshape(g.iota((queries,), 0), (queries, 1)), g.fixed(past, "i64"))
    j = g.reshape(g.iota((keys,), 0), (1, keys))
    mask = condition(g, i, j)
    if low is not None:
        mask = g.map("where", mask, g.fixed(0), g.fixed(low))
    return g.returning(g.op(AttentionOp, g["q"], g["k"], g["k"], mask, scale=0.3))


def causal(module: Any) -> Any:
    """The offset of the one attention, None while it still has its mask."""
    found = next(op for op in module.ir.walk() if isinstance(op, AttentionOp))
    assert (found.mask is None) == found.causal.data
    return found.causal_offset.data[0] if found.causal.data else None


@pytest.mark.parametrize(
    ("fn", "swapped", "offset"),
    [("le", False, 0), ("lt", False, -1), ("ge", True, 0), ("gt", True, -1)],
)
@pytest.mark.parametrize("low", [None, -np.inf])
def test_a_mask_of_key_up_to_query_is_causal(
    graph: Any, check: Any, fn: str, swapped: bool, offset: int, low: float | None
) -> None:
    def condition(g: Any, i: Any, j: Any) -> Any:
        return g.map(fn, i, j) if swapped else g.map(fn, j, i)

    module = attended(graph, condition, low)
    check(module, ALL, *SIZES)
    assert causal(module) == offset


def test_cached_keys_give_an_offset(graph: Any, check: Any) -> None:
    module = attended(graph, lambda g, i, j: g.map("le", j, i), LOWEST, past=3)
    check(module, ALL, *SIZES)
    assert causal(module) == 3


def test_a_finite_mask_that_hides_whole_rows_stays(graph: Any, check: Any) -> None:
    module = attended(graph, lambda g, i, j: g.map("lt", j, i), LOWEST)
    check(module, ALL, *SIZES)
    assert causal(module) is None


@pytest.mark.parametrize("fn", ["ge", "gt", "eq", "ne"])
def test_other_comparisons_are_not_causal(graph: Any, check: Any, fn: str) -> None:
    module = attended(graph, lambda g, i, j: g.map(fn, j, i), -np.inf)
    check(module, ALL, *SIZES)
    assert causal(module) is None


def test_a_mask_with_a_second_condition_stays(graph: Any, check: Any) -> None:
    def condition(g: Any, i: Any, j: Any) -> Any:
        near = g.map("gt", j, g.map("sub", i, g.fixed(4, "i64")))
        return g.map("and", g.map("le", j, i), near)

    module = attended(graph, condition, None)
    check(module, ALL, *SIZES)
    assert causal(module) is None


def test_a_past_of_any_length_gives_its_length_as_offset(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 8", k="f32 B, 4, S + T, 8")
    queries, keys = spec(g["q"]).dims[2], spec(g["k"]).dims[2]
    first = g.size(keys - queries, i64)
    i = g.map("add", g.reshape(g.iota((queries,), 0), (queries, 1)), first)
    mask = g.map("le", g.reshape(g.iota((keys,), 0), (1, keys)), i)
    module = g.returning(g.op(AttentionOp, g["q"], g["k"], g["k"], mask, scale=0.3))
    check(module, ALL, *SIZES)
    assert causal(module) == keys - queries

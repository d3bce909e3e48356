"""Products of rows with gathered matrices, in the spellings of exporters."""

from collections.abc import Callable
from typing import Any

import pytest

from tapeout.ir.ops.index import GatherOp
from tapeout.passes.simplify.experts import RecomposeExperts

Graph = Callable[..., Any]
Check = Callable[..., Any]
SIZES = [{"T": 1}, {"T": 7}]
SPELLINGS = ["rows", "rows, transposed", "rows, turned", "columns", "columns, turned table"]


def spelled(g: Any, how: str) -> Any:
    """A product of ``x [T, 2, 12]`` with some of ten matrices ``[12, 5]``; indices are below 9."""
    by_rows = how in ("rows", "columns, turned table")
    w = g.fixed(g.random.standard_normal((10, 12, 5) if by_rows else (10, 5, 12)))
    if how == "columns, turned table":
        w = g.transpose(w, (0, 2, 1))
    picked = g.op(GatherOp, w, g["e"], axis=0)
    if how.startswith("columns"):
        return g.matmul(picked, g.shaped(g["x"], "T, 2, 12, 1"))
    if how == "rows, turned":
        picked = g.transpose(picked, (0, 1, 3, 2))
    x = g.shaped(g["x"], "T, 2, 1, 12")
    return g.matmul(x, picked, transpose_b=how == "rows, transposed")


@pytest.mark.parametrize("how", SPELLINGS)
def test_every_spelling_becomes_one_operator(graph: Graph, check: Check, how: str) -> None:
    g = graph(x="f32 T, 2, 12", e="i64 T, 2")
    counts = check(g.returning(spelled(g, how)), [RecomposeExperts()], *SIZES)
    assert counts["expert_matmul"] == 1
    assert not counts["gather"]
    assert not counts["matmul"]


def test_rows_that_share_a_matrix_stay_a_batch(graph: Graph, check: Check) -> None:
    g = graph(x="f32 T, 3, 12", e="i64 T")
    w = g.fixed(g.random.standard_normal((10, 12, 5)))
    y = g.matmul(g["x"], g.op(GatherOp, w, g["e"], axis=0))
    counts = check(g.returning(y), [RecomposeExperts()], *SIZES)
    assert counts["gather"] == counts["matmul"] == 1


def test_rows_that_broadcast_stay(graph: Graph, check: Check) -> None:
    g = graph(x="f32 1, 12", e="i64 T")
    w = g.fixed(g.random.standard_normal((10, 12, 5)))
    y = g.matmul(g["x"], g.op(GatherOp, w, g["e"], axis=0))
    counts = check(g.returning(y), [RecomposeExperts()], *SIZES)
    assert counts["gather"] == counts["matmul"] == 1

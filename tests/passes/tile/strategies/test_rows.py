"""Maps, reductions and what is made of both."""

from collections.abc import Callable
from typing import Any

import pytest

from tapeout.ir.expr import as_expr
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import ConcatOp, PadOp

Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]

SIZES = [{"B": 1, "S": 1}, {"B": 2, "S": 7}, {"B": 3, "S": 16}, {"B": 1, "S": 35}]


def test_maps_at_every_size(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 B, S", y="f32 S")
    lowers(g.returning(g.map("mul", g.map("tanh", g["x"]), g["y"])), *SIZES)


def test_a_map_of_nothing_stores_nothing(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 0, 5")
    lowers(g.returning(g.map("exp", g["x"])))


def test_a_scalar(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 ")
    lowers(g.returning(g.map("exp", g["x"])))


def test_several_results_of_one_kernel(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 B, S")
    y = g.map("exp", g["x"])
    titles = lowers(g.returning(y, g.map("add", y, g["x"])), *SIZES)
    assert len(titles) == 1


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("fn", ["sum", "max"])
def test_reductions_along_every_axis(
    graph: Graph, lowers: Lowers, axes: tuple[int, ...], fn: str
) -> None:
    g = graph(x="f32 B, 5, S")
    y = g.op(ReduceOp, g["x"], fn=fn, axes=axes, keepdims=False)
    lowers(g.returning(g.map("neg", y)), *SIZES)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_along_every_axis(graph: Graph, lowers: Lowers, axis: int) -> None:
    g = graph(x="f32 B, 5, S")
    lowers(g.returning(g.op(SoftmaxOp, g["x"], axis=axis)), *SIZES)


@pytest.mark.parametrize("width", [1, 6, 40, 66])
def test_norms_of_ragged_rows(graph: Graph, lowers: Lowers, width: int) -> None:
    g = graph(x=f"f32 B, S, {width}")
    gain, shift = g.weight(width), g.weight(width)
    y = g.op(LayerNormOp, g["x"], gain, shift, axis=-1, epsilon=1e-5)
    lowers(g.returning(g.op(RmsNormOp, g.map("add", y, g["x"]), gain, epsilon=1e-6)), *SIZES[:2])


def test_views_cost_no_kernel(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 B, S, 6")
    y = g.transpose(g.part(g["x"], 2, 1, 4), (0, 2, 1))
    assert len(lowers(g.returning(g.map("exp", y)), *SIZES)) == 1


def test_zero_pads(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 B, S")
    low, high = (as_expr(1), as_expr(0)), (as_expr(0), as_expr(3))
    lowers(g.returning(g.op(PadOp, g.map("exp", g["x"]), None, low=low, high=high)), *SIZES)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenation_along_every_axis(graph: Graph, lowers: Lowers, axis: int) -> None:
    g = graph(x="f32 B, 3, S", y="f32 B, 3, S", z="f32 B, 3, S")
    titles = lowers(g.returning(g.op(ConcatOp, [g[n] for n in "xyz"], axis=axis)), *SIZES)
    assert titles[0].startswith("concat")

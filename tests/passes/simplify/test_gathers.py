"""Gathers with counted indices are slices and reshapes."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.expr import as_expr
from tapeout.ir.ops.index import GatherNdOp, GatherOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec
from tapeout.passes.simplify.canonical import Canonicalise

ALL = [Canonicalise()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 67})


def test_a_table_read_from_its_start_is_a_slice(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 8", t="f32 512, 8")
    s = spec(g["x"]).dims[1]
    positions = g.part(g.fixed(np.arange(512)[None], "i64"), 1, 0, s)
    rows = g.op(GatherOp, g["t"], positions, axis=0)
    left = check(g.returning(g.map("add", g["x"], rows)), ALL, *SIZES)
    assert left == {"slice": 1, "reshape": 1, "add": 1}


def test_a_table_that_may_be_too_short_stays_a_gather(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 8", t="f32 100, 8")
    rows = g.op(GatherOp, g["t"], g.iota(spec(g["x"]).dims[1:2], 0), axis=0)
    assert check(g.returning(g.map("add", g["x"], rows)), ALL, *SIZES)["gather"] == 1


@pytest.mark.parametrize("indices", [[0, 2, 1], [1, 2, 3], [0, 0, 0]])
def test_other_indices_stay(graph: Any, check: Any, indices: Any) -> None:
    g = graph(x="f32 4, 8")
    rows = g.op(GatherOp, g["x"], g.fixed(indices, "i64"), axis=0)
    assert check(g.returning(rows), ALL) == {"gather": 1}


def grid(g: Any, swapped: Any = False) -> Any:
    """Places ``[B, 1, 1, S, 2]`` of all elements of ``[B, S]``, as exporters build them."""
    b, s = spec(g["m"]).dims
    shape = (b, as_expr(1), as_expr(1), s, as_expr(1))
    rows = g.reshape(g.iota((b,), 0), (b, 1, 1, 1, 1))
    columns = g.reshape(g.iota((s,), 0), (1, 1, 1, s, 1))
    pair = [g.expand(v, shape) for v in (rows, columns)]
    return g.op(ConcatOp, pair[::-1] if swapped else pair, axis=-1)


def test_a_gather_of_every_place_is_a_reshape(graph: Any, check: Any) -> None:
    g = graph(m="i64 B, S")
    y = g.op(GatherNdOp, g["m"], grid(g))
    assert check(g.returning(y), ALL, *SIZES) == {"reshape": 1}


def test_a_gather_by_transposed_places_stays(graph: Any, check: Any) -> None:
    g = graph(m="i64 B, S")
    y = g.op(GatherNdOp, g["m"], grid(g, swapped=True))
    left = check(g.returning(y), ALL, {"B": 4, "S": 4}, {"B": 1, "S": 1})
    assert left["gather_nd"] == 1


def test_a_fixed_grid_is_recognised_and_another_is_not(graph: Any, check: Any) -> None:
    g = graph(m="f32 3, 5")
    places = np.stack(np.meshgrid(np.arange(3), np.arange(5), indexing="ij"), -1)
    one = g.op(GatherNdOp, g["m"], g.fixed(places.reshape(1, 3, 5, 2), "i64"))
    two = g.op(GatherNdOp, g["m"], g.fixed(places[::-1].copy(), "i64"))
    assert check(g.returning(one, two), ALL) == {"reshape": 1, "gather_nd": 1}

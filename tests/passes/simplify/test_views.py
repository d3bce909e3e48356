"""Identities of reshapes, transpositions, slices, expansions and concatenations."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f32
from tapeout.ir.expr import ONE, as_expr
from tapeout.ir.ops.views import ConcatOp, PadOp, SliceOp
from tapeout.ir.types import spec
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.views import merged_runs

ALL = [Canonicalise()]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 130})


def test_views_that_change_nothing_go(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 4")
    x = g["x"]
    dims = spec(x).dims
    y = g.expand(x, dims)
    y = g.transpose(g.part(y, 2, 0, 4), (0, 1, 2))
    zero = (as_expr(0),) * 3
    assert not check(g.returning(g.op(PadOp, y, None, low=zero, high=zero)), ALL, *SIZES)


def test_a_full_slice_that_reverses_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4")
    starts = (as_expr(0), as_expr(3))
    y = g.op(SliceOp, g["x"], starts=starts, sizes=spec(g["x"]).dims, steps=(1, -1))
    assert check(g.returning(y), ALL, *SIZES) == {"slice": 1}


def test_reshapes_and_transpositions_compose(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 4, 6")
    y = g.shaped(g.shaped(g["x"], "B*S, 24"), "B, S, 24")
    z = g.transpose(g.transpose(g["x"], (0, 2, 1, 3)), (0, 2, 3, 1))
    assert check(g.returning(y, z), ALL, *SIZES) == {"reshape": 1, "transpose": 1}


def test_two_transpositions_that_undo_each_other_go(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 4")
    y = g.transpose(g.transpose(g["x"], (2, 0, 1)), (1, 2, 0))
    assert not check(g.returning(y), ALL, *SIZES)


def test_moving_only_ones_is_a_reshape(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 1, S, 1")
    y = g.transpose(g["x"], (1, 0, 3, 2))
    assert check(g.returning(y), ALL, *SIZES) == {"reshape": 1}


def test_batched_transposition_written_with_merged_heads_is_one(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 12, S, 32")
    flat = g.shaped(g["x"], "12*B, S, 32")
    y = g.shaped(g.transpose(flat, (0, 2, 1)), "B, 12, 32, S")
    assert check(g.returning(y), ALL, *SIZES) == {"transpose": 1}


def test_split_in_other_places_than_merged_keeps_one_reshape(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 12, S, 32")
    flat = g.shaped(g["x"], "12*B, S, 32")
    y = g.shaped(g.transpose(flat, (0, 2, 1)), "B, 6, 64, S")
    assert check(g.returning(y), ALL, *SIZES) == {"reshape": 1, "transpose": 1}


def test_a_transposition_meets_its_opposite_through_merged_axes(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 2, 4, S, 16")
    merged = g.shaped(g.transpose(g["x"], (0, 1, 2, 4, 3)), "B, 8, 16, S")
    assert check(g.returning(g.transpose(merged, (0, 1, 3, 2))), ALL, *SIZES) == {"reshape": 1}


def test_a_shuffle_of_channels_is_kept(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 24, S")
    parts = g.transpose(g.shaped(g["x"], "B, 4, 6, S"), (0, 2, 1, 3))
    y = g.shaped(parts, "B, 24, S")
    assert check(g.returning(y), ALL, *SIZES) == {"reshape": 2, "transpose": 1}


def test_an_expansion_in_front_of_a_map_goes(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 1", z="f32 B, S")
    wide = g.expand(g["x"], spec(g["z"]).dims)
    assert check(g.returning(g.map("add", wide, g["z"])), ALL, *SIZES) == {"add": 1}


def test_an_expansion_that_gives_the_shape_moves_behind_the_map(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 1", z="f32 B, S")
    wide = g.expand(g["x"], spec(g["z"]).dims)
    module = g.returning(g.map("mul", g.map("exp", wide), g.fixed(3)))
    assert check(module, ALL, *SIZES) == {"exp": 1, "mul": 1, "expand": 1}
    names = [op.name for op in module.ir.walk() if op.name in ("nn.map", "nn.expand")]
    assert names == ["nn.map", "nn.map", "nn.expand"]


def test_what_repeats_is_converted_before(graph: Any, check: Any) -> None:
    g = graph(x="i64 B, 1", z="f32 B, S")
    wide = g.expand(g["x"], spec(g["z"]).dims)
    module = g.returning(g.convert(wide, f32))
    assert check(module, ALL, *SIZES) == {"convert": 1, "expand": 1}
    names = [op.name for op in module.ir.walk() if op.name in ("nn.convert", "nn.expand")]
    assert names == ["nn.convert", "nn.expand"]


def test_slices_of_slices_add_up(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 40")
    one = g.op(
        SliceOp,
        g["x"],
        starts=(as_expr(0), as_expr(39)),
        sizes=(spec(g["x"]).dims[0], as_expr(13)),
        steps=(1, -3),
    )
    two = g.op(
        SliceOp,
        one,
        starts=(as_expr(0), as_expr(2)),
        sizes=(spec(g["x"]).dims[0], as_expr(4)),
        steps=(1, 2),
    )
    assert check(g.returning(two), ALL, *SIZES) == {"slice": 1}


def test_a_slice_of_a_concatenation_finds_its_operand(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S", z="f32 B, 6")
    s = spec(g["x"]).dims[1]
    joined = g.op(ConcatOp, [g["x"], g["z"], g["x"]], axis=1)
    assert not check(g.returning(g.part(joined, 1, s, 6), g.part(joined, 1, s + 6, s)), ALL, *SIZES)


def test_a_slice_across_operands_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4", z="f32 B, 6")
    joined = g.op(ConcatOp, [g["x"], g["z"]], axis=1)
    left = check(g.returning(g.part(joined, 1, 3, 4)), ALL, *SIZES)
    assert left == {"concat": 1, "slice": 1}


def test_a_slice_at_the_same_place_of_another_axis_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 4, 4")
    joined = g.op(ConcatOp, [g["x"], g["x"]], axis=0)
    part = g.op(
        SliceOp,
        joined,
        starts=(as_expr(0), as_expr(0)),
        sizes=(as_expr(4), as_expr(4)),
        steps=(2, 1),
    )
    assert check(g.returning(part), ALL)["slice"] == 1


def test_concatenations_flatten_and_lose_what_is_empty(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4", z="f32 B, 0")
    inner = g.op(ConcatOp, [g["x"], g["z"]], axis=-1)
    module = g.returning(g.op(ConcatOp, [inner, g["x"]], axis=1))
    assert check(module, ALL, *SIZES) == {"concat": 1}
    joined = next(op for op in module.ir.walk() if op.name == "nn.concat")
    assert len(joined.operands) == 2


def test_slices_joined_again_are_their_source(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S, 6")
    parts = [g.part(g["x"], 2, start, 2) for start in (0, 2, 4)]
    other = [parts[1], parts[0]]
    joined = (g.op(ConcatOp, parts, axis=2), g.op(ConcatOp, other, axis=2))
    left = check(g.returning(*joined), ALL, *SIZES)
    assert left == {"slice": 2, "concat": 1}


def test_a_product_takes_the_transposition_of_its_right_operand(graph: Any, check: Any) -> None:
    g = graph(a="f32 B, S, 8", b="f32 B, T, 8")
    y = g.matmul(g["a"], g.transpose(g["b"], (0, 2, 1)))
    sizes = ({"B": 2, "S": 3, "T": 7}, {"B": 1, "S": 1, "T": 1})
    assert check(g.returning(y), ALL, *sizes) == {"matmul": 1}


def test_a_product_leaves_other_transpositions(graph: Any, check: Any) -> None:
    g = graph(a="f32 B, S, 8", b="f32 8, B, T")
    y = g.matmul(g["a"], g.transpose(g["b"], (1, 0, 2)))
    left = check(g.returning(y), ALL, {"B": 2, "S": 3, "T": 7})
    assert left == {"matmul": 1, "transpose": 1}


@pytest.mark.parametrize(
    ("dims", "merged", "runs"),
    [
        ((2, 3, 4), (6, 4), [[0, 1], [2]]),
        ((1, 6, 4), (1, 24), [[0], [1, 2]]),
        ((1, 6, 4), (1, 1, 24), [[0], [], [1, 2]]),
        ((6, 4, 1), (6, 4), [[0], [1, 2]]),
        ((2, 3, 4), (3, 8), None),
        ((2, 3), (2, 3, 5), None),
    ],
)
def test_merged_runs_finds_the_axes_of_each_size(dims: Any, merged: Any, runs: Any) -> None:
    assert merged_runs([as_expr(d) for d in dims], [as_expr(d) for d in merged]) == runs


def test_merged_runs_tells_symbols_from_numbers(graph: Any) -> None:
    b, s = graph(x="f32 B, S")["x"].type.data.dims
    assert merged_runs([b, s, ONE * 4], [b * s, ONE * 4]) == [[0, 1], [2]]
    assert merged_runs([b, s], [s, b]) is None


def test_random_chains_of_views_keep_their_meaning(graph: Any, check: Any) -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        g = graph(x="f32 2, 3, 1, 4")
        y = g["x"]
        for _ in range(6):
            sizes = [int(d) for d in spec(y).dims]
            match int(random.integers(0, 4)):
                case 0:
                    y = g.transpose(y, tuple(int(i) for i in random.permutation(len(sizes))))
                case 1:
                    cut = int(random.integers(0, len(sizes)))
                    shape = [*sizes[:cut], int(np.prod(sizes[cut:]))]
                    y = g.reshape(y, shape)
                case 2:
                    axis = int(random.integers(0, len(sizes)))
                    y = g.reshape(y, [*sizes[:axis], 1, *sizes[axis:]])
                case _:
                    axis = int(random.integers(0, len(sizes)))
                    y = g.part(y, axis, 0, max(1, sizes[axis] - int(random.integers(0, 2))))
        check(g.returning(y), ALL, rtol=0, atol=0)

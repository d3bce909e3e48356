"""Products in which every row names its own matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f32, i32
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp, ExpertMatmulOp

LANES = (4, 8, 16)
Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]

EXPERTS = 5
ASSIGNED: dict[str, list[int]] = {
    "none": [],
    "one row": [3],
    "mixed": [4, 0, 3, 3, 0, 4, 4, 1, -1, -5],
    "all on one": [2] * 31,
    "out of order": [4, 3, 2, 1, 0] * 6,
    "more than a chunk": [1] * 130 + [4, 1] * 3,
}


def matrices(g: Any, k: int, n: int, dtype: str = "f32") -> Any:
    """More than a literal holds, so that they are weights."""
    return g.fixed(g.random.standard_normal((EXPERTS, k, n)) / 4, dtype)


@pytest.mark.parametrize("assigned", ASSIGNED)
def test_rows_find_their_matrix(graph: Graph, lowers: Lowers, assigned: str) -> None:
    experts = np.array(ASSIGNED[assigned], np.int64)
    g = graph(x=f"f32 {len(experts)}, 9")
    y = g.op(ExpertMatmulOp, g["x"], matrices(g, 9, 21), g.fixed(experts, "i64"))
    titles = lowers(g.returning(y))
    assert titles == [f"product [{len(experts)}, 9] x one of 5 [9, 21]"]


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("columns", [1, 32, 300])
def test_any_number_of_rows(graph: Graph, lowers: Lowers, transpose_b: bool, columns: int) -> None:
    g = graph(x="f32 S, 9", e="i32 S")
    # Of the five, the second and the last.
    experts = g.map("sub", g.map("mul", g["e"], g.constant(2, i32)), g.constant(1, i32))
    b = matrices(g, columns, 9) if transpose_b else matrices(g, 9, columns)
    y = g.op(ExpertMatmulOp, g["x"], b, experts, transpose_b=transpose_b)
    lowers(g.returning(y), *({"S": s} for s in (1, 2, 40)))


def test_inner_sizes_are_cut_into_blocks(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 S, 1030", e="i64 S")
    y = g.op(ExpertMatmulOp, g["x"], matrices(g, 1030, 6), g["e"])
    lowers(g.returning(y), {"S": 17})


def test_bias_and_routing_weight_are_its_epilogue(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 S, 7", e="i64 S", weight="f32 S")
    y = g.op(ExpertMatmulOp, g["x"], matrices(g, 7, 19), g["e"])
    y = g.map("mul", g.map("gelu", y), g.shaped(g["weight"], "S, 1"))
    titles = lowers(g.returning(y), {"S": 1}, {"S": 12})
    assert len(titles) == 1


@pytest.mark.parametrize("to", [None, f32])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_narrow_floats_are_summed_in_f32(graph: Graph, lowers: Lowers, dtype: str, to: Any) -> None:
    g = graph(x=f"{dtype} S, 33", e="i64 S")
    y = g.op(ExpertMatmulOp, g["x"], matrices(g, 33, 21, dtype), g["e"], to=to)
    lowers(g.returning(y), {"S": 1}, {"S": 13}, tolerance=1e-5 if to else 1e-2)


def test_matrices_may_be_inputs(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 S, 9", w="f32 3, 10, 9", e="i64 S")
    lowers(g.returning(g.op(ExpertMatmulOp, g["x"], g["w"], g["e"], transpose_b=True)), {"S": 6})


def in_codes(g: Any, experts: Any, n: int, bits: int, group: int, *, zeros: bool = False) -> Any:
    """The product of ``g["a"]``, ``g["s"]`` and ``g["sums"]`` with drawn codes."""
    k = int(g["a"].type.data.dims[-1])
    codes = g.fixed(g.random.integers(0, 1 << bits, (EXPERTS, n, k)), "u8")
    scales = g.fixed(g.random.random((EXPERTS, n, k // group)) + 0.5)
    zero = g.fixed(g.random.integers(0, 256, (EXPERTS, n, k // group)), "u8") if zeros else None
    given = (g["a"], g["s"], g["sums"], codes, scales, zero, experts)
    return g.op(ExpertGroupedMatmulOp, *given, group=group, bits=bits, point=(1 << bits) // 2)


@pytest.mark.parametrize("assigned", ASSIGNED)
@pytest.mark.parametrize("zeros", [False, True])
def test_rows_find_their_codes(graph: Graph, lowers: Lowers, assigned: str, zeros: bool) -> None:
    experts = np.array(ASSIGNED[assigned], np.int64)
    rows = len(experts)
    g = graph(a=f"i8 {rows}, 16", s=f"f32 {rows}, 2", sums=f"i32 {rows}, 2")
    y = in_codes(g, g.fixed(experts, "i64"), 21, 4, 8, zeros=zeros)
    lowers(g.returning(y), tolerance=1e-6)


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("columns", [1, 64, 300])
def test_codes_of_any_number_of_rows(graph: Graph, lowers: Lowers, bits: int, columns: int) -> None:
    g = graph(a="i8 S, 64", s="f32 S, 1", sums="i32 S, 2", e="i32 S")
    y = in_codes(g, g["e"], columns, bits, 32)
    lowers(g.returning(g.map("neg", y)), {"S": 1}, {"S": 22}, tolerance=1e-6)

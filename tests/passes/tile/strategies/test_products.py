"""Matrix products, convolutions, windows and attention, with what is fused to them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DType, bf16, f32
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.pool import PoolOp

Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]

SIZES = [{"B": 1, "S": 1}, {"B": 2, "S": 7}, {"B": 1, "S": 33}]


@pytest.mark.parametrize("columns", [1, 5, 16, 37])
def test_a_packed_product_with_its_epilogue(graph: Graph, lowers: Lowers, columns: int) -> None:
    g = graph(x="f32 B, S, 9", r=f"f32 B, S, {columns}")
    y = g.map("add", g.matmul(g["x"], g.weight(9, columns)), g.weight(columns))
    titles = lowers(g.returning(g.map("add", g.map("gelu", y), g["r"])), *SIZES)
    assert len(titles) == 1
    assert titles[0].startswith("product")


@pytest.mark.parametrize("rows", [1, 6, 7, 29])
def test_products_of_a_known_number_of_rows(graph: Graph, lowers: Lowers, rows: int) -> None:
    g = graph(x=f"f32 {rows}, 11")
    lowers(g.returning(g.matmul(g["x"], g.weight(12, 11), transpose_b=True)))


@pytest.mark.parametrize(
    ("inner", "columns", "rows"), [(1024, 37, 15), (300, 5, 40), (1024, 5, 1), (2048, 5, 15)]
)
def test_a_long_product_of_any_number_of_rows(
    graph: Graph, lowers: Lowers, inner: int, columns: int, rows: int
) -> None:
    g = graph(x=f"f32 S, {inner}")
    y = g.map("add", g.matmul(g["x"], g.weight(inner, columns)), g.weight(columns))
    lowers(g.returning(g.map("relu", y)), {"S": rows})


@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_two_activations(graph: Graph, lowers: Lowers, transpose_b: bool) -> None:
    b = "f32 B, S, 10" if transpose_b else "f32 B, 10, S"
    g = graph(a="f32 B, S, 10", b=b)
    lowers(g.returning(g.matmul(g["a"], g["b"], transpose_b=transpose_b)), *SIZES)


def test_a_product_of_nothing_is_zero(graph: Graph, lowers: Lowers) -> None:
    g = graph(a="f32 3, 0", b="f32 0, 5")
    lowers(g.returning(g.matmul(g["a"], g["b"])))


@pytest.mark.parametrize("inner", [3, 4, 33])
@pytest.mark.parametrize(("x", "w"), [("u8", "i8"), ("i8", "u8")])
def test_products_of_bytes_are_exact(
    graph: Graph, lowers: Lowers, inner: int, x: str, w: str
) -> None:
    g = graph(x=f"{x} B, S, {inner}")
    weight = g.fixed(g.random.integers(0, 128, (inner, 21)), w)
    y = g.convert(g.matmul(g["x"], weight), f32)
    lowers(g.returning(g.map("mul", y, g.weight(21))), *SIZES, tolerance=0)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolutions_of_bytes_are_exact(
    graph: Graph, lowers: Lowers, groups: int, dilation: int
) -> None:
    g = graph(x="u8 B, 4, 8, 9")
    w = g.fixed(g.random.integers(-128, 128, (12, 4 // groups, 3, 3)), "i8")
    bias = g.fixed(g.random.integers(-999, 999, 12), "i32")
    window = {"strides": (1, 2), "pads": (1, 0, 2, 1), "dilations": (dilation, dilation)}
    y = g.op(ConvOp, g["x"], w, bias, **window, groups=groups)
    lowers(g.returning(y), {"B": 2}, tolerance=0)


NO_PAIRS: frozenset[DType] = frozenset()
PAIRS = [pytest.param(NO_PAIRS, id="widened"), pytest.param(frozenset({bf16}), id="pairs")]


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("inner", [3, 4, 33])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_products_of_narrow_floats_are_summed_in_f32(
    graph: Graph, lowers: Lowers, inner: int, dtype: str
) -> None:
    g = graph(x=f"{dtype} B, S, {inner}")
    weight = g.fixed(g.random.standard_normal((21, inner)), dtype)
    y = g.op(MatmulOp, g["x"], weight, transpose_b=True, to=f32)
    lowers(g.returning(g.map("gelu", g.map("add", y, g.weight(21)))), *SIZES)


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("rows", [1, 13])
def test_what_is_rounded_again_is_a_second_result(graph: Graph, lowers: Lowers, rows: int) -> None:
    g = graph(x=f"bf16 {rows}, 10")
    y = g.op(MatmulOp, g["x"], g.fixed(g.random.standard_normal((10, 40)), "bf16"), to=f32)
    near = g.convert(y, bf16)
    titles = lowers(g.returning(y, near, g.matmul(near, g.fixed(np.eye(40), "bf16"))))
    assert len(titles) == 2


def test_a_panel_that_many_rows_share_is_widened_once(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="bf16 44, 9")
    y = g.op(MatmulOp, g["x"], g.fixed(g.random.standard_normal((37, 9)), "bf16"), transpose_b=True)
    lowers(g.returning(g.convert(y, f32)), tolerance=1e-2)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_two_narrow_activations(
    graph: Graph, lowers: Lowers, transpose_b: bool
) -> None:
    b = "f16 B, S, 10" if transpose_b else "f16 B, 10, S"
    g = graph(a="f16 B, S, 10", b=b)
    lowers(g.returning(g.op(MatmulOp, g["a"], g["b"], transpose_b=transpose_b, to=f32)), *SIZES)


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolutions_of_narrow_floats_are_summed_in_f32(
    graph: Graph, lowers: Lowers, groups: int, dilation: int
) -> None:
    g = graph(x="bf16 B, 4, 8, 9")
    w = g.fixed(g.random.standard_normal((12, 4 // groups, 3, 3)), "bf16")
    window = {"strides": (1, 2), "pads": (1, 0, 2, 1), "dilations": (dilation, dilation)}
    y = g.op(ConvOp, g["x"], w, g.weight(12), **window, groups=groups, to=f32)
    lowers(g.returning(g.map("relu", y)), {"B": 2})


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "1x1": {"outputs": 7, "kernel": 1},
    "3x3": {"outputs": 20, "kernel": 3},
    "3x3 strided": {"outputs": 9, "kernel": 3, "strides": (2, 2)},
    "3x3 dilated": {"outputs": 5, "kernel": 3, "dilations": (2, 2), "pads": (2, 2, 2, 2)},
    "5x5 uneven pads": {"outputs": 6, "kernel": 5, "pads": (0, 2, 1, 3)},
    "grouped": {"outputs": 8, "kernel": 3, "groups": 2},
    "depthwise": {"outputs": 4, "kernel": 3, "groups": 4},
    "depthwise strided": {"outputs": 4, "kernel": 3, "groups": 4, "strides": (2, 1)},
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(1, 5), (6, 9)], ids=str)
def test_convolutions(graph: Graph, lowers: Lowers, kind: str, size: tuple[int, int]) -> None:
    g = graph(x=f"f32 B, 4, {size[0] + 4}, {size[1] + 4}")
    attrs = dict(CONVOLUTIONS[kind])
    y = g.conv(g["x"], attrs.pop("outputs"), attrs.pop("kernel"), **attrs)
    lowers(g.returning(g.map("relu", y)), {"B": 1}, {"B": 2})


def test_a_small_convolution_of_many_channels(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 1, 40, 4, 5")
    lowers(g.returning(g.map("relu", g.conv(g["x"], 6, 3))))


def test_a_residual_joins_its_convolution(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 B, 4, 6, 6", r="f32 B, 8, 6, 6")
    y = g.map("relu", g.map("add", g.conv(g["x"], 8, 3), g["r"]))
    lowers(g.returning(g.conv(y, 5, 3)), {"B": 2})


@pytest.mark.parametrize("fn", ["max", "mean"])
@pytest.mark.parametrize("channels", [1, 6, 33])
def test_pools(graph: Graph, lowers: Lowers, fn: str, channels: int) -> None:
    g = graph(x=f"f32 B, {channels}, 7, 6")
    window = {"kernel": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 1), "dilations": (1, 1)}
    y = g.op(PoolOp, g["x"], fn=fn, sizes=(as_expr(4), as_expr(3)), **window)
    lowers(g.returning(g.map("neg", y)), {"B": 2})


@pytest.mark.parametrize("depth", [4, 17])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_stores_through_its_transpose(
    graph: Graph, lowers: Lowers, depth: int, causal: bool
) -> None:
    g = graph(**{n: f"f32 B, S, 2, {depth}" for n in "qkv"})
    heads = [g.transpose(g[n], (0, 2, 1, 3)) for n in "qkv"]
    y = g.op(AttentionOp, *heads, None, scale=0.4, causal=causal)
    titles = lowers(g.returning(g.transpose(y, (0, 2, 1, 3))), *SIZES)
    assert len(titles) == 1


@pytest.mark.parametrize("mask", ["f32 B, 1, 1, T", "f32 S, T", "bool B, 2, S, T"])
def test_masked_attention_on_other_keys(graph: Graph, lowers: Lowers, mask: str) -> None:
    g = graph(q="f32 B, 2, S, 6", k="f32 B, 1, T, 6", v="f32 B, 1, T, 9", mask=mask)
    y = g.op(AttentionOp, g["q"], g["k"], g["v"], g["mask"], scale=0.4)
    lowers(g.returning(y), *({**s, "T": t} for s, t in zip(SIZES, (1, 20, 5), strict=True)))

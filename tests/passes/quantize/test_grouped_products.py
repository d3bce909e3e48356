"""Weights in groups become products of packed codes, and mean the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.passes.manager import run
from tapeout.passes.quantize.grouped_products import GroupedProducts
from tapeout.passes.quantize.packed import packed

Graph = Callable[..., Any]
Check = Callable[..., Any]

SIZES = [{"B": 1, "S": 3}, {"B": 3, "S": 8}]


def weights(
    g: Any, n: int, k: int, group: int, low: int, high: int, zeros: bool, transposed: bool
) -> SSAValue:
    """Dequantised codes from ``low`` to ``high``, as a product's right side."""
    codes = g.random.integers(low, high + 1, (n, k))
    codes.flat[:2] = low, high
    count = -(-k // group) if group else 1
    scale, zero = g.random.random((n, count)) + 0.5, g.random.integers(0, high + 1, (n, count))
    dtype = "u8" if zeros else "i8"
    parts = [codes, scale, zero] if transposed else [codes.T, scale.T, zero.T]
    block = {"axis": int(transposed), "block": group} if group else {}
    points = g.fixed(parts[2], dtype) if zeros else None
    return g.op(DequantizeOp, g.fixed(parts[0], dtype), g.fixed(parts[1]), points, to=f32, **block)


def first(outputs: Any) -> Any:
    return next(iter(outputs.values()))


def grouped(module: Any) -> list[GroupedMatmulOp]:
    return [op for op in module.ir.walk() if isinstance(op, GroupedMatmulOp)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("low", "high", "zeros", "bits"),
    [(-8, 7, False, 4), (0, 15, True, 4), (-4, 3, False, 3), (-127, 127, False, 8)],
)
@pytest.mark.parametrize(("k", "group"), [(64, 32), (40, 16), (36, 32), (7, 32)])
def test_codes_of_rows_meet_weights_in_groups(
    graph: Graph, check: Check, k: int, group: int, low: int, high: int, zeros: bool, bits: int,
    transposed: bool,
) -> None:  # fmt: skip
    g = graph(x=f"i8 B, S, {k}", scale="f32 B, S, 1")
    a = g.op(DequantizeOp, g["x"], g["scale"], None, to=f32)
    b = weights(g, 5, k, group, low, high, zeros, transposed)
    module = g.returning(g.matmul(a, b, transpose_b=transposed))
    left = check(module, [GroupedProducts()], *SIZES, rtol=1e-5)
    assert left["grouped_matmul"] == 1
    assert left["matmul"] + left["dequantize"] == 0
    assert grouped(module)[0].bits.data == bits


@pytest.mark.parametrize(("a_group", "w_group"), [(16, 0), (16, 16), (0, 16)])
def test_either_side_may_have_one_scale_for_a_row(
    graph: Graph, check: Check, a_group: int, w_group: int
) -> None:
    g = graph(x="i8 B, S, 48", scale=f"f32 B, S, {48 // a_group if a_group else 1}")
    block = {"axis": 2, "block": a_group} if a_group else {}
    a = g.op(DequantizeOp, g["x"], g["scale"], None, to=f32, **block)
    b = weights(g, 5, 48, w_group, -7, 7, zeros=False, transposed=True)
    module = g.returning(g.matmul(a, b, transpose_b=True))
    assert check(module, [GroupedProducts()], *SIZES, rtol=1e-5)["grouped_matmul"] == 1


def test_groups_of_two_lengths_stay_floats(graph: Graph, check: Check) -> None:
    g = graph(x="i8 B, S, 48", scale="f32 B, S, 3")
    a = g.op(DequantizeOp, g["x"], g["scale"], None, to=f32, axis=2, block=16)
    b = weights(g, 5, 48, 8, -7, 7, zeros=False, transposed=True)
    left = check(g.returning(g.matmul(a, b, transpose_b=True)), [GroupedProducts()], *SIZES)
    assert left["dequantize"] == 2


@pytest.mark.parametrize("k", [64, 50, 3])
def test_floats_that_meet_groups_are_rounded_to_bytes(graph: Graph, k: int) -> None:
    """Each activation is off by half a step at most: a 254th of the largest of its group."""
    g = graph(x=f"f32 B, S, {k}")
    module = g.returning(g.matmul(g["x"], weights(g, 9, k, 32, -8, 7, False, False)))
    x = np.random.default_rng(3).standard_normal((2, 5, k)).astype(np.float32)
    want = first(evaluate(module, {"x": x}))
    step = np.abs(x).max(axis=-1, keepdims=True) / 127
    run(module, [GroupedProducts()], verify="each")
    assert grouped(module)
    have = first(evaluate(module, {"x": x}))
    assert 0 < np.abs(have - want).max()
    most = 0.5 * step * (8 * 1.5 * k) + 1e-4
    assert (np.abs(have - want) <= most).all()


def test_floats_that_meet_groups_without_a_kernel_stay_as_they_are(
    graph: Graph, check: Check
) -> None:
    g = graph(x="f32 B, S, 18")
    module = g.returning(g.matmul(g["x"], weights(g, 5, 18, 6, -8, 7, False, False)))
    assert check(module, [GroupedProducts()], *SIZES, rtol=0, atol=0)["round_rows"] == 0


def test_a_group_of_zeros_has_a_scale(graph: Graph) -> None:
    g = graph(x="f32 2, 64")
    module = g.returning(g.matmul(g["x"], weights(g, 4, 64, 32, -8, 7, False, False)))
    run(module, [GroupedProducts()])
    have = first(evaluate(module, {"x": np.zeros((2, 64), np.float32)}))
    np.testing.assert_array_equal(have, np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("codes", "bits", "point"),
    [
        ([-8, 7, 0], 4, 8),
        ([-1, 1, 0], 2, 1),
        ([0, 3, 2], 2, 0),
        ([5, 6, 5], 1, -5),
        ([4, 4], 1, -4),
    ],
)
def test_codes_take_the_fewest_bits_that_hold_them(codes: list[int], bits: int, point: int) -> None:
    made = packed(np.array([codes]), np.ones((1, 1), np.float32), None, 0)
    assert made is not None
    assert (made.bits, made.point, made.step) == (bits, point, 1)
    np.testing.assert_array_equal(made.codes.astype(int) - made.point, [codes])


def test_signs_take_one_bit() -> None:
    signs = np.array([[-1, 1, 1], [1, -1, -1]])
    made = packed(signs, np.ones((2, 1), np.float32), None, 0)
    assert made is not None
    assert made.bits == 1
    np.testing.assert_array_equal(made.codes.astype(int) * made.step - made.point, signs)


def test_a_zero_point_for_each_group_is_kept() -> None:
    codes, zeros = np.array([[-8, 7, 0, 3]]), np.array([[-2, 5]])
    made = packed(codes, np.ones((1, 2), np.float32), zeros, 2)
    assert made is not None
    assert made.zero is not None
    assert made.bits == 4
    whole = made.codes.astype(int) - np.repeat(made.zero.astype(int), 2, axis=1)
    np.testing.assert_array_equal(whole, codes - np.repeat(zeros, 2, axis=1))


def test_codes_of_more_than_eight_bits_are_not_packed() -> None:
    assert packed(np.array([[-200, 100]]), np.ones((1, 1), np.float32), None, 0) is None

"""Products of quantised tensors become products of bytes, and mean the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i8, i32
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.types import spec
from tapeout.passes.quantize.integer_products import IntegerProducts
from tapeout.passes.quantize.plain import PlainNumbers
from tapeout.passes.simplify.fold import Fold

Graph = Callable[..., Any]
Check = Callable[..., Any]

PASSES = [IntegerProducts(), PlainNumbers(), Fold()]
SIZES = [{"B": 1, "S": 3}, {"B": 3, "S": 8}]


def dequantized(
    g: Any, codes: SSAValue, scale: Any, zero: Any = None, dtype: str = "u8"
) -> SSAValue:
    points = None if zero is None else g.fixed(zero, dtype)
    return g.op(DequantizeOp, codes, g.fixed(scale), points, to=f32)


def is_in_bytes(left: Any) -> bool:
    """Whether a product is left and no float, nor wide integer, enters it."""
    return left["matmul"] + left["conv"] == 1 and left["dequantize"] == 0


@pytest.mark.parametrize("x_zero", [None, 0, 3, 128])
@pytest.mark.parametrize(("w", "w_zero"), [("i8", None), ("i8", 5), ("u8", 128), ("u8", 20)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_of_dequantised_tensors(
    graph: Graph, check: Check, x_zero: int | None, w: str, w_zero: int | None, transposed: bool
) -> None:
    g = graph(x="u8 B, S, 11")
    low = -128 if w == "i8" else 0
    shape, scales = ((7, 11), (7, 1)) if transposed else ((11, 7), (7,))
    codes = g.fixed(g.random.integers(low, low + 256, shape), w)
    a = dequantized(g, g["x"], 0.25, x_zero)
    b = dequantized(g, codes, g.random.random(scales) + 0.5, w_zero, w)
    module = g.returning(g.matmul(a, b, transpose_b=transposed))
    assert is_in_bytes(check(module, PASSES, *SIZES, rtol=1e-6))


@pytest.mark.parametrize(("x", "zero"), [("u8", 7), ("i8", -3), ("i8", None)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_pads_with_its_zero_point(
    graph: Graph, check: Check, x: str, zero: int | None, groups: int
) -> None:
    g = graph(x=f"{x} B, 4, 6, 5")
    w = g.fixed(g.random.integers(-128, 128, (6, 4 // groups, 3, 3)), "i8")
    b = dequantized(g, w, g.random.random((6, 1, 1, 1)) + 0.5)
    window = {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 1), "groups": groups}
    y = g.op(ConvOp, dequantized(g, g["x"], 0.1, zero, x), b, g.weight(6), **window)
    assert is_in_bytes(check(g.returning(y), PASSES, *SIZES, rtol=1e-6))


@pytest.mark.parametrize("x", ["u8", "i8"])
@pytest.mark.parametrize("w_zero", [0, 20, 128])
def test_a_convolution_pads_with_a_zero_point_that_the_run_decides(
    graph: Graph, check: Check, x: str, w_zero: int
) -> None:
    g = graph(x=f"{x} B, 4, 6, 5", zero=f"{x} ")
    centred = g.map("sub", g.convert(g["x"], i32), g.convert(g["zero"], i32))
    w = g.fixed(g.random.integers(0, 256, (6, 4, 3, 3)) - w_zero, "i32")
    window = {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 1)}
    module = g.returning(g.op(ConvOp, centred, w, None, **window))
    check(module, PASSES, *SIZES, rtol=0, atol=0)
    types = {spec(op.w).dtype for op in module.ir.walk() if isinstance(op, ConvOp)}
    assert types == {i8}


@pytest.mark.parametrize("zero", [300, -1])
def test_what_is_no_code_pads_no_codes(graph: Graph, check: Check, zero: int) -> None:
    g = graph(x="u8 B, 4, 6, 5")
    centred = g.map("sub", g.convert(g["x"], i32), g.fixed(zero, "i32"))
    w = g.fixed(g.random.integers(-128, 128, (6, 4, 3, 3)), "i32")
    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    module = g.returning(g.op(ConvOp, centred, w, None, **window))
    left = check(module, PASSES, *SIZES, rtol=0, atol=0)
    assert left["sub"] == 1


@pytest.mark.parametrize(("scale", "in_bytes"), [(0.25, True), (-0.25, False)])
def test_a_max_pool_looks_at_codes(
    graph: Graph, check: Check, scale: float, in_bytes: bool
) -> None:
    g = graph(x="i8 B, 4, 6, 5")
    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    sizes = {"kernel": (3, 3), "sizes": (as_expr(6), as_expr(5))}
    pooled = g.op(PoolOp, dequantized(g, g["x"], scale, -3, "i8"), fn="max", **sizes, **window)
    b = dequantized(g, g.fixed(g.random.integers(-128, 128, (6, 4, 3, 3)), "i8"), 0.5)
    module = g.returning(g.op(ConvOp, pooled, b, None, **window))
    check(module, PASSES, *SIZES, rtol=1e-6)
    (conv,) = (op for op in module.ir.walk() if isinstance(op, ConvOp))
    assert (spec(conv.y).dtype is i32) == in_bytes


@pytest.mark.parametrize("x", ["u8", "i8"])
def test_integers_less_their_zero_points_stay_exact(graph: Graph, check: Check, x: str) -> None:
    g = graph(x=f"{x} B, S, 9", zero=f"{x} ")
    centred = g.map("sub", g.convert(g["x"], i32), g.convert(g["zero"], i32))
    weights = g.fixed(g.random.integers(-100, 140, (9, 5)), "i32")
    left = check(g.returning(g.matmul(centred, weights)), PASSES, *SIZES, rtol=0, atol=0)
    assert is_in_bytes(left)


def test_a_scale_per_row_stays_with_its_row(graph: Graph, check: Check) -> None:
    g = graph(x="u8 B, S, 9", scale="f32 B, S, 1", zero="u8 B, S, 1")
    a = g.op(DequantizeOp, g["x"], g["scale"], g["zero"], to=f32)
    b = dequantized(g, g.fixed(g.random.integers(-128, 128, (9, 5)), "i8"), 0.5)
    assert is_in_bytes(check(g.returning(g.matmul(a, b)), PASSES, *SIZES, rtol=1e-5))


def test_scales_along_the_summed_axis_stay_floats(graph: Graph, check: Check) -> None:
    g = graph(x="u8 B, S, 9")
    a = dequantized(g, g["x"], 0.5)
    b = dequantized(g, g.fixed(g.random.integers(-9, 9, (9, 5)), "i8"), g.random.random((9, 1)))
    left = check(g.returning(g.matmul(a, b)), [IntegerProducts()], *SIZES)
    assert left["dequantize"] == 2


def test_weights_that_fit_no_byte_stay_as_they_are(graph: Graph, check: Check) -> None:
    g = graph(x="u8 B, S, 9")
    weights = np.full((9, 5), 200)
    weights[0] = -100
    product = g.matmul(g.convert(g["x"], i32), g.fixed(weights, "i32"))
    left = check(g.returning(product), [IntegerProducts()], *SIZES, rtol=0)
    assert left["convert"] == 1

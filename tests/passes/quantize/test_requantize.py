"""From sums of integers to the next codes, in few steps, with the same codes."""

from collections.abc import Callable
from typing import Any

import pytest

from tapeout.ir.dtypes import f32, u8
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.passes.quantize.requantize import Requantize
from tapeout.passes.simplify.affine import FoldAffine

Graph = Callable[..., Any]
Check = Callable[..., Any]

SIZES = [{"B": 1}, {"B": 3}]
WINDOW = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1)}


def product(g: Any) -> Any:
    """The sums of a product of bytes as floats."""
    codes = g.fixed(g.random.integers(-128, 128, (9, 5)), "i8")
    return g.map("mul", g.convert(g.matmul(g["x"], codes), f32), g.fixed([0.25] * 5))


def codes_of(g: Any, y: Any, fn: str, by: Any) -> Any:
    return g.op(ConvertOp, g.map("round", g.map(fn, y, by)), to=u8, saturate=True)


def test_a_sum_of_two_scaled_tensors_is_scaled_once(graph: Graph, check: Check) -> None:
    g = graph(x="u8 B, 9", r="u8 B, 5")
    skipped = g.map("mul", g.convert(g["r"], f32), g.fixed(0.5))
    total = g.map("add", g.map("add", product(g), g.fixed([1.0, 2, 3, 4, 5])), skipped)
    made = codes_of(g, g.map("relu", total), "mul", g.fixed(0.125))
    left = check(g.returning(made), [Requantize(), FoldAffine()], *SIZES, rtol=0, atol=0)
    assert (left["mul"], left["add"], left["relu"]) == (2, 2, 0)


def test_a_scale_that_a_sum_cannot_take_stays(graph: Graph, check: Check) -> None:
    g = graph(x="u8 B, 9", r="f32 B, 5")
    made = codes_of(g, g.map("add", product(g), g["r"]), "mul", g.fixed(0.125))
    left = check(g.returning(made), [Requantize(), FoldAffine()], *SIZES, rtol=0, atol=0)
    assert left["mul"] == 2


@pytest.mark.parametrize("scale", ["mul", "div"])
@pytest.mark.parametrize(
    ("fn", "by", "moves"), [("max", 0.5, True), ("max", -0.5, False), ("mean", 0.5, False)]
)
def test_only_what_never_falls_moves_before_a_max(
    graph: Graph, check: Check, fn: str, by: float, moves: bool, scale: str
) -> None:
    g = graph(x="u8 B, 3, 6, 5")
    w = g.fixed(g.random.integers(-128, 128, (4, 3, 1, 1)), "i8")
    window = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
    sums = g.convert(g.op(ConvOp, g["x"], w, None, **window), f32)
    pooled = g.op(PoolOp, sums, fn=fn, sizes=(as_expr(3), as_expr(3)), **WINDOW)
    module = g.returning(codes_of(g, g.map("relu", pooled), scale, g.fixed(by)))
    check(module, [Requantize()], *SIZES, rtol=0, atol=0)
    (pool,) = (op for op in module.ir.walk() if isinstance(op, PoolOp))
    assert (str(pool.y.type).count("u8") == 1) == moves

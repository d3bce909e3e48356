"""Layers in 16-bit floats: what is rounded, what crosses memory in 16 bits, what is refused."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.ir.dtypes import DTYPES, f32
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import CallOp
from tapeout.ir.types import spec
from tapeout.passes.manager import run
from tapeout.passes.pipeline import KERNELS, LAYOUT, QUANTIZE, SIMPLIFY
from tapeout.passes.quantize.quantize_layers import QuantizeLayers

Array = np.ndarray[Any, Any]
Graph = Callable[..., Any]

FORMATS = {"bf16": "bf16", "fp16": "f16"}
UNIT = {"bf16": 2.0**-8, "fp16": 2.0**-11}
"""Half the distance of neighbours, relative."""


def mlp(graph: Graph) -> Module:
    g = graph(x="f32 B, S, 24")
    first = g.fixed(g.random.standard_normal((24, 40)) / 5)
    second = g.fixed(g.random.standard_normal((16, 40)) / 6)
    hidden = g.map("gelu", g.map("add", g.matmul(g["x"], first), g.weight(40)))
    return g.returning(g.matmul(hidden, second, transpose_b=True))


def convolutions(graph: Graph) -> Module:
    g = graph(x="f32 B, 6, 9, 8")
    y = g.map("relu", g.conv(g["x"], 16, 3, strides=(2, 1)))
    return g.returning(g.conv(g.map("relu", g.conv(y, 16, 3, groups=16)), 12, 1))


def inputs(module: Module) -> dict[str, Array]:
    random, sizes = np.random.default_rng(3), {"B": 2, "S": 5}
    value = next(module.entries()).body.block.args[0]
    shape = [d.evaluate(sizes) for d in spec(value).dims]
    return {"x": random.standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("make", [mlp, convolutions])
@pytest.mark.parametrize("format", FORMATS)
def test_a_layer_is_as_far_off_as_two_roundings(
    graph: Graph, make: Callable[..., Module], format: str
) -> None:
    module = make(graph)
    given = inputs(module)
    want = evaluate(module, given)["y0"]
    run(module, [*SIMPLIFY, QuantizeLayers(format), *QUANTIZE, *LAYOUT], verify="each")
    have = evaluate(module, given)["y0"]
    error = np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2))
    assert 0 < error < 2 * UNIT[format]


@pytest.mark.parametrize("format", FORMATS)
def test_factors_have_16_bits_and_sums_32(graph: Graph, format: str) -> None:
    module = mlp(graph)
    run(module, [*SIMPLIFY, QuantizeLayers(format), *QUANTIZE], verify="each")
    products = [op for op in module.ir.walk() if op.name == "nn.matmul"]
    narrow = DTYPES[FORMATS[format]]
    types = [[spec(v).dtype for v in (*op.operands, *op.results)] for op in products]
    assert types == [[narrow, narrow, f32]] * 2


def test_one_layer_by_hand(graph: Graph) -> None:
    module = graph(x="f32 3, 24")
    weight = module.random.standard_normal((24, 400)).astype(np.float32)
    made = module.returning(module.matmul(module["x"], module.fixed(weight)))
    QuantizeLayers("bf16").apply(made)
    x = np.random.default_rng(1).standard_normal((3, 24)).astype(np.float32)
    left, right = (v.astype(ml_dtypes.bfloat16).astype(np.float32) for v in (x, weight))
    np.testing.assert_array_equal(evaluate(made, {"x": x})["y0"], left @ right)


def test_between_two_layers_activations_cross_memory_in_16_bits(graph: Graph) -> None:
    module = mlp(graph)
    run(module, [*SIMPLIFY, QuantizeLayers("bf16"), *QUANTIZE, *LAYOUT, *KERNELS], verify="each")
    calls = [op for op in module.ir.walk() if isinstance(op, CallOp)]
    results = [[spec(r).dtype.name for r in call.results] for call in calls]
    assert results == [["bf16"], ["bf16"], ["f32"]]


def test_one_rounding_serves_all_readers(graph: Graph) -> None:
    g = graph(x="f32 B, S, 24")
    weights = [g.fixed(g.random.standard_normal((24, 24))) for _ in range(3)]
    module = g.returning(*[g.matmul(g["x"], w) for w in weights])
    run(module, [QuantizeLayers("bf16"), *QUANTIZE], verify="each")
    assert [op.name for op in module.ir.walk()].count("nn.convert") == 1


def test_a_scale_is_not_folded_into_rounded_weights(graph: Graph) -> None:
    g = graph(x="f32 4, 24")
    y = g.matmul(g["x"], g.fixed(g.random.standard_normal((24, 6))))
    module = g.returning(g.map("mul", y, g.fixed(np.linspace(1, 2, 6))))
    QuantizeLayers("bf16").apply(module)
    x = np.random.default_rng(1).standard_normal((4, 24)).astype(np.float32)
    want = evaluate(module, {"x": x})["y0"]
    run(module, QUANTIZE, verify="each")
    np.testing.assert_array_equal(evaluate(module, {"x": x})["y0"], want)


@pytest.mark.parametrize(("format", "value"), [("fp16", 65520.0), ("bf16", 3.4e38)])
def test_weights_that_would_become_infinite_are_refused(
    graph: Graph, format: str, value: float
) -> None:
    g = graph(x="f32 B, S, 24")
    weight = np.ones((24, 600), np.float32)
    weight[3, 4] = value
    module = g.returning(g.matmul(g["x"], g.fixed(weight)))
    with pytest.raises(CompileError, match="too large") as refused:
        QuantizeLayers(format).apply(module)
    assert refused.value.code == "E0702"


def test_the_greatest_f16_is_kept(graph: Graph) -> None:
    g = graph(x="f32 2, 4")
    module = g.returning(g.matmul(g["x"], g.fixed(np.full((4, 600), 65504.0))))
    QuantizeLayers("fp16").apply(module)
    have = evaluate(module, {"x": np.ones((2, 4), np.float32)})["y0"]
    np.testing.assert_array_equal(have, np.full((2, 600), 4 * 65504.0, np.float32))


def test_weights_that_are_not_finite_are_named(graph: Graph) -> None:
    g = graph(x="f32 B, S, 24")
    broken = np.ones((24, 600), np.float32)
    broken[3, 4] = np.inf
    module = g.returning(g.matmul(g["x"], g.fixed(broken)))
    with pytest.raises(CompileError, match="E0701"):
        QuantizeLayers("fp16").apply(module)

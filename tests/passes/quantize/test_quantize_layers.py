"""Layers take the formats of a recipe: close to what they were, in bytes, and refused in time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import i8, u8
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.types import spec
from tapeout.passes.manager import run
from tapeout.passes.pipeline import QUANTIZE, SIMPLIFY
from tapeout.passes.quantize.quantize_layers import QuantizeLayers

Array = np.ndarray[Any, Any]
Graph = Callable[..., Any]
Samples = list[Mapping[str, Array]]

TOLERANCE = 0.02
"""Of the output's root mean square: two tensors of 8 bits, each off by half a step."""


def samples_of(module: Module, sizes: Mapping[str, int], count: int) -> Samples:
    random = np.random.default_rng(11)
    entry = next(module.entries())
    shapes = {
        name: [d.evaluate(sizes) for d in spec(value).dims]
        for name, value in zip(entry.inputs.data, entry.body.block.args, strict=True)
    }
    return [
        {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        for _ in range(count)
    ]


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


MODELS = {"mlp": mlp, "convolutions": convolutions}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("format", ["int8-dynamic", "int8", "int8,min-max", "int8,search"])
def test_a_quantised_model_is_close_to_the_one_it_was(
    graph: Graph, model: str, format: str
) -> None:
    module = MODELS[model](graph)
    samples = samples_of(module, {"B": 2, "S": 5}, 4)
    wanted = [evaluate(module, each) for each in samples]
    run(module, [*SIMPLIFY, QuantizeLayers(format, samples), *QUANTIZE], verify="each")
    for inputs, want in zip(samples, wanted, strict=True):
        have = evaluate(module, inputs)["y0"]
        error = np.sqrt(np.mean((have - want["y0"]) ** 2) / np.mean(want["y0"] ** 2))
        assert error < TOLERANCE


@pytest.mark.parametrize("format", ["int8-dynamic", "int8"])
def test_every_product_is_one_of_bytes(graph: Graph, format: str) -> None:
    module = mlp(graph)
    samples = samples_of(module, {"B": 1, "S": 3}, 1)
    run(module, [*SIMPLIFY, QuantizeLayers(format, samples), *QUANTIZE], verify="each")
    products = [op for op in module.ir.walk() if op.name == "nn.matmul"]
    types = [tuple(spec(v).dtype for v in op.operands) for op in products]
    assert types == [(u8, i8), (u8, i8)]


FEW_BITS = {
    **{"w8": 0.015, "w8g16": 0.015, "w6": 0.04, "w4g16": 0.12, "w4g16a-f32": 0.12, "w4a8g16": 0.12},
    # Groups as long as a row: one scale for each output.
    **{"w4g64": 0.2, "w4g32a": 0.14, "w4a8g128": 0.2},
    **{"w4g16,search": 0.12, "w4g16,gptq": 0.12, "w3g8": 0.25, "w2g8a-bf16": 0.6, "w1g8": 0.8},
    "w4a8": 0.2,
}
"""Weights alone: formats, and what they may be off by, of the output's root mean square."""


@pytest.mark.parametrize("format", FEW_BITS)
def test_weights_of_few_bits_are_packed(graph: Graph, format: str) -> None:
    module = mlp(graph)
    samples = samples_of(module, {"B": 2, "S": 5}, 4)
    wanted = [evaluate(module, each)["y0"] for each in samples]
    run(module, [*SIMPLIFY, QuantizeLayers(format, samples), *QUANTIZE], verify="each")
    products = [op for op in module.ir.walk() if isinstance(op, GroupedMatmulOp)]
    assert [op.bits.data for op in products] == [int(format[1])] * 2
    assert not [op for op in module.ir.walk() if op.name == "nn.matmul"]
    for inputs, want in zip(samples, wanted, strict=True):
        have = evaluate(module, inputs)["y0"]
        assert np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2)) < FEW_BITS[format]


def test_gptq_keeps_pruned_weights_and_errs_less(graph: Graph) -> None:
    """Inputs that hang together are what it makes use of."""
    g = graph(x="f32 B, 32")
    weight = g.random.standard_normal((32, 24)) * (g.random.random((32, 24)) < 0.5)
    x = (g.random.standard_normal((64, 5)) @ g.random.standard_normal((5, 32))).astype(np.float32)
    errors = {}
    for method in ("nearest", "gptq"):
        g = graph(x="f32 B, 32")
        module = g.returning(g.matmul(g["x"], g.fixed(weight)))
        want = evaluate(module, {"x": x})["y0"]
        run(module, [QuantizeLayers(f"w3g8,{method}", [{"x": x}])])
        owners = [op for op in module.ir.walk() if op.name == "nn.dequantize"]
        (codes,) = [a for op in owners if (a := module.value_of(op.operands[0])) is not None]
        np.testing.assert_array_equal(codes[weight == 0], 0)
        errors[method] = np.linalg.norm(evaluate(module, {"x": x})["y0"] - want)
    assert errors["gptq"] < 0.9 * errors["nearest"]


def test_rows_of_zeros_stay_zeros(graph: Graph) -> None:
    module = mlp(graph)
    run(module, [*SIMPLIFY, QuantizeLayers("int8-dynamic"), *QUANTIZE])
    x = np.zeros((1, 2, 24), np.float32)
    have = evaluate(module, {"x": x})["y0"]
    assert np.isfinite(have).all()
    np.testing.assert_allclose(have, evaluate(mlp(graph), {"x": x})["y0"], atol=0.02)


def test_a_file_leaves_layers_as_they_are(graph: Graph, tmp_path: Path) -> None:
    recipe = tmp_path / "formats.toml"
    recipe.write_text('default = "int8-dynamic"\n[layers]\nlayer0 = "none"\n')
    module = mlp(graph)
    run(module, [*SIMPLIFY, QuantizeLayers(str(recipe)), *QUANTIZE], verify="each")
    results = [str(op.results[0].type) for op in module.ir.walk() if op.name == "nn.matmul"]
    assert ["f32" in r for r in results] == [True, False]


@pytest.mark.parametrize(
    ("format", "code"),
    [("int8", "E0110"), ("w4g6", "E0404"), ("w4g32,gptq", "E0110")],
)
def test_what_cannot_be_done_is_refused(graph: Graph, format: str, code: str) -> None:
    with pytest.raises(CompileError, match=code):
        QuantizeLayers(format).apply(mlp(graph))


def test_a_dynamic_layer_beside_a_static_one_keeps_its_own_scales(
    graph: Graph, tmp_path: Path
) -> None:
    recipe = tmp_path / "formats.toml"
    recipe.write_text('default = "int8-dynamic"\n[layers]\nlayer0 = "int8"\n')
    g = graph(x="f32 B, S, 24")
    weights = [g.fixed(g.random.standard_normal((24, 48))) for _ in range(2)]
    module = g.returning(*[g.matmul(g["x"], w) for w in weights])
    samples = samples_of(module, {"B": 1, "S": 3}, 1)
    QuantizeLayers(str(recipe), samples).apply(module)
    extremes = [op for op in module.ir.walk() if op.name == "nn.reduce"]
    assert len(extremes) == 2


def test_weights_that_are_not_finite_are_named(graph: Graph) -> None:
    g = graph(x="f32 B, S, 24")
    broken = np.ones((24, 600), np.float32)
    broken[3, 4] = np.nan
    module = g.returning(g.matmul(g["x"], g.fixed(broken)))
    with pytest.raises(CompileError, match="E0701"):
        QuantizeLayers("int8-dynamic").apply(module)


def test_activations_that_are_not_finite_are_told(graph: Graph) -> None:
    g = graph(x="f32 B, S, 24")
    weights = [g.fixed(g.random.standard_normal((24, 24))) for _ in range(2)]
    hidden = g.map("exp", g.matmul(g["x"], weights[0]))
    module = g.returning(g.matmul(hidden, weights[1]))
    samples = [{"x": np.full((1, 1, 24), 300, np.float32)}]
    with pytest.raises(CompileError, match="E0704"):
        QuantizeLayers("int8", samples).apply(module)

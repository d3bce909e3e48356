"""Layers lose the weights that a recipe says, stay what they are, and are refused in time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.passes.manager import run
from tapeout.passes.pipeline import QUANTIZE, SIMPLIFY
from tapeout.passes.quantize.layers import layers
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.sparsify.detect import Zeros, detect
from tapeout.passes.sparsify.encode_products import Choice, EncodeProducts
from tapeout.passes.sparsify.sparsify_layers import SparsifyLayers

Array = np.ndarray[Any, Any]
Graph = Callable[..., Any]


def mlp(graph: Graph) -> Module:
    g = graph(x="f32 S, 24")
    first = g.builder.insert(g.module.weight(g.random.standard_normal((24, 40)).astype("f"), "up"))
    second = g.random.standard_normal((16, 40)).astype("f")
    down = g.builder.insert(g.module.weight(second, "down"))
    hidden = g.map("gelu", g.matmul(g["x"], first.results[0]))
    return g.returning(g.matmul(hidden, down.results[0], transpose_b=True))


def samples(count: int = 3) -> list[dict[str, Array]]:
    random = np.random.default_rng(3)
    loud = np.where(np.arange(24) < 6, 100.0, 0.01)
    return [{"x": (random.standard_normal((5, 24)) * loud).astype("f")} for _ in range(count)]


def zeros_of(module: Module) -> dict[str, Zeros]:
    found: dict[str, Zeros] = {}
    for layer in layers(module):
        array = module.value_of(layer.weight)
        assert array is not None
        found[layer.name] = detect(layer.as_matrix(array))
    return found


@pytest.mark.parametrize(
    ("sparsity", "weights", "blocks"),
    [
        ("2:4", 0.5, None),
        ("1:4", 0.75, None),
        ("4x1@0.5", 0.5, 0.5),
        ("unstructured@0.9", 0.9, None),
    ],
)
def test_every_layer_loses_its_part(
    graph: Graph, sparsity: str, weights: float, blocks: float | None
) -> None:
    module = mlp(graph)
    run(module, [SparsifyLayers(sparsity)])
    for zeros in zeros_of(module).values():
        assert zeros.weights == pytest.approx(weights, abs=0.01)
        assert blocks is None or zeros.blocks == pytest.approx(blocks, abs=0.01)


def test_what_stays_is_what_it_was(graph: Graph) -> None:
    module = mlp(graph)
    before = {s: module.weights[s].copy() for s in module.weights}
    run(module, [SparsifyLayers("unstructured@0.3")])
    for layer, was in zip(layers(module), before.values(), strict=True):
        now = module.value_of(layer.weight)
        assert now is not None
        np.testing.assert_array_equal(now[now != 0], was[now != 0])


def test_saliency_keeps_the_weights_of_loud_inputs(graph: Graph) -> None:
    module = mlp(graph)
    run(module, [SparsifyLayers("unstructured@0.75,saliency", samples())])
    up = next(layers(module))
    array = module.value_of(up.weight)
    assert array is not None
    np.testing.assert_array_equal(up.as_matrix(array)[:, :6] != 0, True)
    np.testing.assert_array_equal(up.as_matrix(array)[:, 6:], 0)


@pytest.mark.parametrize("format", ["int8-dynamic", "int8"])
def test_pruned_weights_are_zero_in_bytes_too(graph: Graph, format: str) -> None:
    module, told = mlp(graph), list[Choice]()
    requested = [SparsifyLayers("4x1@0.8"), QuantizeLayers(format, samples())]
    before = mlp(graph)
    run(before, [SIMPLIFY[0], requested[0]])
    run(module, [*SIMPLIFY, *requested, *QUANTIZE, EncodeProducts(0.5, 1.0, choices=told)])
    assert [choice.encoded for choice in told] == [True, True]
    assert all(choice.zeros.blocks >= 0.79 for choice in told)
    x = samples(1)[0]
    (want,), (have,) = evaluate(before, x).values(), evaluate(module, x).values()
    assert np.abs(have - want).max() < 0.05 * np.abs(want).max()


def test_a_file_says_it_per_layer(graph: Graph, tmp_path: Path) -> None:
    file = tmp_path / "sparsity.toml"
    file.write_text('default = "2:4"\n[layers]\n"up" = "none"\n')
    module = mlp(graph)
    run(module, [SparsifyLayers(str(file))])
    parts = {name: zeros.weights for name, zeros in zeros_of(module).items()}
    assert parts == {"up": 0.0, "down": 0.5}


@pytest.mark.parametrize(
    ("sparsity", "code"),
    [("4x1", "E0111"), ("3:3", "E0111"), ("2:4,saliency", "E0110"), ("missing.toml", "E0112")],
)
def test_what_cannot_be_done_is_refused(graph: Graph, sparsity: str, code: str) -> None:
    with pytest.raises(CompileError) as refused:
        run(mlp(graph), [SparsifyLayers(sparsity)])
    assert refused.value.code == code


def test_a_pattern_of_no_layer_is_refused(graph: Graph, tmp_path: Path) -> None:
    file = tmp_path / "sparsity.toml"
    file.write_text('[layers]\n"upp" = "2:4"\n')
    with pytest.raises(CompileError, match="no layer matches"):
        run(mlp(graph), [SparsifyLayers(str(file))])


def test_the_saliency_of_convolutions_is_refused(graph: Graph) -> None:
    g = graph(x="f32 B, 4, 6, 6")
    with pytest.raises(CompileError) as refused:
        run(g.returning(g.conv(g["x"], 8, 3)), [SparsifyLayers("2:4,saliency", samples())])
    assert refused.value.code == "E0404"


def test_a_model_without_layers_is_refused(graph: Graph) -> None:
    g = graph(x="f32 S")
    with pytest.raises(CompileError) as refused:
        run(g.returning(g.map("exp", g["x"])), [SparsifyLayers("2:4")])
    assert refused.value.code == "E0705"


def test_samples_that_overflow_are_told(graph: Graph) -> None:
    broken = [{"x": np.full((1, 24), np.inf, np.float32)}]
    with pytest.raises(CompileError) as refused:
        run(mlp(graph), [SparsifyLayers("2:4,saliency", broken)])
    assert refused.value.code == "E0704"

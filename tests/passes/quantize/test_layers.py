"""Layers bear the names of the model's weights, through whatever folds into those."""

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.source import WeightOp
from tapeout.passes.manager import run
from tapeout.passes.pipeline import LAYOUT, QUANTIZE, SIMPLIFY
from tapeout.passes.quantize.layers import layers
from tapeout.passes.quantize.quantize_layers import QuantizeLayers

Graph = Callable[..., Any]


def named(g: Any, label: str, *shape: int) -> SSAValue:
    """A weight as an importer makes it, with its name in the file."""
    array = g.random.standard_normal(shape).astype(np.float32)
    return g.builder.insert(g.module.weight(array, label)).results[0]


def names(module: Module) -> list[str]:
    return [layer.name for layer in layers(module)]


def test_a_transposed_and_scaled_weight_keeps_its_name(graph: Graph) -> None:
    g = graph(x="f32 B, 24")
    w = g.transpose(named(g, "encoder.weight", 40, 24), (1, 0))
    scales = named(g, "scales", 40)
    module = g.returning(g.map("mul", g.matmul(g["x"], w), scales))
    run(module, SIMPLIFY)
    assert names(module) == ["encoder.weight"]
    assert not any(op.name == "nn.transpose" for op in module.ir.walk())


def test_filters_that_take_a_norm_keep_their_name(graph: Graph) -> None:
    g = graph(x="f32 B, 16, 9, 9")
    window = {"strides": (1, 1), "pads": (1,) * 4, "dilations": (1, 1)}
    y = g.op(ConvOp, g["x"], named(g, "stem.conv", 16, 16, 3, 3), None, **window)
    module = g.returning(g.map("mul", y, named(g, "stem.norm", 16, 1, 1)))
    run(module, SIMPLIFY)
    assert names(module) == ["stem.conv"]


def test_layers_of_one_weight_are_told_apart(graph: Graph) -> None:
    g = graph(x="f32 B, 24")
    w = named(g, "tied", 24, 24)
    module = g.returning(g.matmul(g.matmul(g["x"], w), g.transpose(w, (1, 0))))
    run(module, SIMPLIFY)
    assert names(module) == ["tied", "tied#2"]


def test_codes_bear_the_name_to_the_end(graph: Graph) -> None:
    g = graph(x="f32 B, 24")
    module = g.returning(g.matmul(g["x"], named(g, "head", 24, 40)))
    run(module, [*SIMPLIFY, QuantizeLayers("int8-dynamic"), *QUANTIZE, *LAYOUT])
    (product,) = [op for op in module.ir.walk() if op.name == "nn.matmul"]
    codes = product.operands[1].owner
    assert isinstance(codes, WeightOp)
    assert module.weights.label(codes.symbol.data) == "head"

"""Residual sums of quantised convolutions read codes, not floats."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import CallOp
from tapeout.ir.types import TensorType, spec
from tapeout.passes.manager import run
from tapeout.passes.pipeline import passes
from tapeout.passes.quantize.quantize_layers import QuantizeLayers

Array = np.ndarray[Any, Any]
Graph = Callable[..., Any]

TOLERANCE = 0.03
"""Of the output's root mean square: three layers of 8 bits, and their sum rounded too."""


def block(g: Any, x: Any, *, projected: bool, swapped: bool) -> Any:
    """A residual block: two convolutions beside what came in, or a third convolution of it."""
    y = g.conv(g.map("relu", g.conv(x, 16, 1)), 24, 3)
    skipped = g.conv(x, 24, 1) if projected else x
    return g.map("relu", g.map("add", *((skipped, y) if swapped else (y, skipped))))


def stored_floats(module: Module) -> int:
    """Tensors of f32 of rank 4 between kernels."""
    calls = [op for e in module.entries() for op in e.walk() if isinstance(op, CallOp)]
    made = [v for op in calls for v in op.results if isinstance(v.type, TensorType)]
    return sum(spec(v).dtype is f32 and spec(v).rank == 4 for v in made)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_blocks_exchange_bytes_alone(graph: Graph, projected: bool, swapped: bool) -> None:
    g = graph(x="f32 B, 24, 7, 6")
    y = block(g, g.map("relu", g.conv(g["x"], 24, 1)), projected=projected, swapped=swapped)
    module = g.returning(g.conv(block(g, y, projected=False, swapped=swapped), 16, 1))
    random = np.random.default_rng(3)
    samples: list[Mapping[str, Array]] = [
        {"x": random.standard_normal((2, 24, 7, 6)).astype(np.float32)} for _ in range(3)
    ]
    wanted = [evaluate(module, each)["y0"] for each in samples]
    run(module, passes(QuantizeLayers("int8", samples)), verify="each")
    for inputs, want in zip(samples, wanted, strict=True):
        have = evaluate(module, inputs)["y0"]
        assert np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2)) < TOLERANCE
    assert stored_floats(module) == 1  # the result of the model


def test_equal_blocks_stay_one_kernel(graph: Graph) -> None:
    g = graph(x="f32 B, 24, 7, 6")
    y = g.map("relu", g.conv(g["x"], 24, 1))
    for _ in range(3):
        y = block(g, y, projected=False, swapped=False)
    module = g.returning(g.conv(y, 16, 1))
    samples = [{"x": np.random.default_rng(3).standard_normal((1, 24, 7, 6)).astype(np.float32)}]
    run(module, passes(QuantizeLayers("int8", samples)))
    calls = [op for e in module.entries() for op in e.walk() if isinstance(op, CallOp)]
    assert len(module.kernels()) < len(calls) - 2


def test_a_sum_beside_matrix_products_stays_in_floats(graph: Graph) -> None:
    g = graph(x="f32 B, 24")
    y = g.map("add", g.matmul(g["x"], g.weight(24, 24)), g["x"])
    module = g.returning(g.matmul(y, g.weight(24, 4)))
    samples = [{"x": np.random.default_rng(3).standard_normal((4, 24)).astype(np.float32)}]
    QuantizeLayers("int8", samples).apply(module)
    adds = [op for op in module.ir.walk() if isinstance(op, MapOp) and op.fn.data == "add"]
    assert any(op.xs[1] is g["x"] for op in adds)

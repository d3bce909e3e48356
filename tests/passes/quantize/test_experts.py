"""The matrices of experts in fewer bits: each expert's own codes, and what is left as it is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import bf16
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp, ExpertMatmulOp
from tapeout.ir.types import spec
from tapeout.passes.budget.alone import Alone
from tapeout.passes.manager import run
from tapeout.passes.pipeline import QUANTIZE, SIMPLIFY
from tapeout.passes.quantize.choices import Choice
from tapeout.passes.quantize.formats import parse_format
from tapeout.passes.quantize.layers import layers
from tapeout.passes.quantize.quantize_layers import QuantizeLayers

Graph = Callable[..., Any]
NOISE = {"w8": 0.02, "w4g32": 0.15, "w4g8a-f16": 0.15, "w3g20": 0.3, "bf16": 0.01}


def mixture(graph: Graph, transpose_b: bool = True) -> Module:
    """Experts of very different size, so that a scale of a neighbour would show."""
    g = graph(x="f32 S, 72", e="i64 S")
    sizes = np.array([1, 100, 0.01, 1, 10, 1, 1, 1, 1]).reshape(9, 1, 1)
    shape = (9, 21, 72) if transpose_b else (9, 72, 21)
    w = g.fixed(g.random.standard_normal(shape) * sizes)
    return g.returning(g.op(ExpertMatmulOp, g["x"], w, g["e"], transpose_b=transpose_b))


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("format", NOISE)
def test_every_expert_keeps_its_numbers(graph: Graph, format: str, transpose_b: bool) -> None:
    module = mixture(graph, transpose_b)
    random = np.random.default_rng(3)
    inputs = {"x": random.standard_normal((18, 72)).astype(np.float32), "e": np.arange(18) % 9}
    want = evaluate(module, inputs)["y0"]
    run(module, [*SIMPLIFY, QuantizeLayers(format), *QUANTIZE], verify="each")
    have = evaluate(module, inputs)["y0"]
    error = np.sqrt(np.mean((have - want) ** 2, axis=1) / np.mean(want**2, axis=1))
    assert error.max() < NOISE[format]
    if format == "bf16":
        (left,) = [op for op in module.ir.walk() if isinstance(op, ExpertMatmulOp)]
        assert {spec(left.a).dtype, spec(left.b).dtype} == {bf16}
    else:
        (made,) = [op for op in module.ir.walk() if isinstance(op, ExpertGroupedMatmulOp)]
        assert made.bits.data == int(format[1])


@pytest.mark.parametrize("format", ["int8-dynamic", "w4a8", "w4g32,gptq"])
def test_formats_that_experts_cannot_have_are_told(graph: Graph, format: str) -> None:
    told: list[Choice] = []

    def tell(made: Sequence[Choice]) -> None:
        told.extend(made)

    module = mixture(graph)
    samples = [{"x": np.zeros((2, 72), np.float32), "e": np.zeros(2, np.int64)}]
    run(module, [*SIMPLIFY, QuantizeLayers(format, samples, tell=tell), *QUANTIZE], verify="each")
    assert [c.format for c in told] == [None]
    assert "expert" in told[0].why
    assert any(isinstance(op, ExpertMatmulOp) for op in module.ir.walk())


def test_a_format_of_experts_has_its_noise(graph: Graph) -> None:
    module = mixture(graph)
    (layer,) = layers(module)
    assert layer.matrix_shape == (9 * 21, 72)
    x = np.random.default_rng(4).standard_normal((18, 72)).astype(np.float32)
    alone = Alone.of(layer, module, x)
    fine, coarse = (alone.noise(f) for name in ("w8", "w3g24") if (f := parse_format(name)))
    assert 0 < fine < 1e-3 < coarse < 0.2

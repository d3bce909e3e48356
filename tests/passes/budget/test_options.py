"""What each layer can be: noise as it is, for products and filters, and formats that are barred."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f32, i8
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.types import spec
from tapeout.passes.budget.options import options_of
from tapeout.passes.manager import run
from tapeout.passes.pipeline import SIMPLIFY
from tapeout.passes.quantize.formats import LayerFormat, parse_format
from tapeout.passes.quantize.pays import Predictor, Rates
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.quantize.recipe import parse_quantize

Array = np.ndarray[Any, Any]
Graph = Callable[..., Any]
Samples = list[Mapping[str, Array]]

PREDICTOR = Predictor(Rates({f32: 100, i8: 400}, 10, "made up"), {"B": 4, "S": 64})


def formats(*names: str) -> list[LayerFormat]:
    return [f for f in map(parse_format, names) if f is not None]


def mixed(graph: Graph) -> Module:
    """A convolution and a product behind it."""
    g = graph(x="f32 B, 8, 6, 6")
    y = g.map("relu", g.conv(g["x"], 16, 3))
    rows = g.reshape(y, (spec(y).dims[0], 16 * 36))
    return g.returning(g.matmul(rows, g.weight(16 * 36, 64)))


def product(graph: Graph) -> Module:
    g = graph(x="f32 B, S, 48")
    return g.returning(g.matmul(g["x"], g.weight(48, 64)))


def samples(*shape: int, count: int = 3) -> Samples:
    random = np.random.default_rng(5)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("name", ["int8-dynamic", "w4g16", "w2g16"])
def test_noise_of_one_layer_is_that_of_the_model(graph: Graph, name: str) -> None:
    module, data = product(graph), samples(1, 16, 48)
    (layered,) = options_of(module, formats(name), data, PREDICTOR)
    wanted = [evaluate(module, each)["y0"] for each in data]
    QuantizeLayers(parse_quantize(name)).apply(module)
    have = [evaluate(module, each)["y0"] for each in data]
    noise = sum(np.sum((a - b) ** 2) for a, b in zip(have, wanted, strict=True))
    signal = sum(np.sum(a**2) for a in wanted)
    assert layered.options[1].noise == pytest.approx(noise / signal, rel=1e-3)
    assert layered.options[0].noise == 0


def test_fewer_bits_are_louder_and_smaller(graph: Graph) -> None:
    names = ("w8", "w4g16", "w3g16", "w2g16")
    (layered,) = options_of(product(graph), formats(*names), samples(1, 16, 48), PREDICTOR)
    sqnrs = [o.sqnr for o in layered.options]
    sizes = [o.bytes for o in layered.options]
    assert sqnrs == sorted(sqnrs, reverse=True)
    assert sizes == sorted(sizes, reverse=True)
    assert sqnrs[1] > 40 > sqnrs[2] > 10


def test_filters_take_the_formats_that_they_can(graph: Graph) -> None:
    module = mixed(graph)
    run(module, SIMPLIFY)
    data = samples(2, 8, 6, 6)
    filters, matrix = options_of(module, formats("int8", "int8-dynamic"), data, PREDICTOR)
    assert [o.name for o in filters.options] == ["f32", "int8"]
    assert "no rows" in filters.barred["int8-dynamic"]
    assert filters.options[1].sqnr > 30
    assert "int8" in [o.name for o in matrix.options]


def test_what_would_be_slower_is_no_option(graph: Graph) -> None:
    slow = Predictor(Rates({f32: 100, i8: 50}, 10, "made up"), {"B": 4, "S": 512})
    g = graph(x="f32 B, S, 512")
    module = g.returning(g.matmul(g["x"], g.weight(512, 512)))
    (layered,) = options_of(module, formats("int8-dynamic"), samples(1, 4, 512), slow)
    assert [o.name for o in layered.options] == ["f32"]
    assert layered.barred["int8-dynamic"].startswith("slower: ")


def test_scales_that_do_not_fit_bar_a_format_and_nan_weights_are_told(graph: Graph) -> None:
    g = graph(x="f32 B, S, 48")
    module = g.returning(g.matmul(g["x"], g.fixed(np.full((48, 64), 1e9))))
    (layered,) = options_of(module, formats("w4g16", "w8"), samples(1, 4, 48), PREDICTOR)
    assert [o.name for o in layered.options] == ["f32", "w8"]
    g = graph(x="f32 B, S, 48")
    module = g.returning(g.matmul(g["x"], g.fixed(np.full((48, 64), np.nan))))
    with pytest.raises(CompileError, match="E0701"):
        options_of(module, formats("w8"), samples(1, 4, 48), PREDICTOR)


def test_a_layer_that_no_sample_reaches_stays(graph: Graph) -> None:
    (layered,) = options_of(product(graph), formats("w8"), samples(1, 0, 48), PREDICTOR)
    assert layered.barred == {"w8": "no sample came by here"}

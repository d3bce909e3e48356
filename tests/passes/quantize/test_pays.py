"""A format is taken where a device is not slower in it: predictions of made-up layers and rates."""

from collections.abc import Callable
from typing import Any

import pytest

from tapeout.ir.dtypes import bf16, f32, i8
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.quantize.choices import choices
from tapeout.passes.quantize.formats import parse_format
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.pays import LookUps, Predictor, Rates, weight_bytes
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.quantize.recipe import parse_quantize

Graph = Callable[..., Any]

FAST_BYTES = Rates({f32: 100, i8: 400}, 10, "made up")
SLOW_BYTES = Rates({f32: 100, i8: 80}, 10, "made up")
INT8, DYNAMIC = parse_format("int8"), parse_format("int8-dynamic")


def product(graph: Graph, k: int = 256, n: int = 512, rows: str = "S") -> Module:
    g = graph(x=f"f32 {rows}, {k}")
    return g.returning(g.matmul(g["x"], g.fixed(g.random.standard_normal((k, n)))))


def only(module: Module) -> Layer:
    (layer,) = layers(module)
    return layer


def test_a_layer_takes_the_longer_of_computing_and_moving(graph: Graph) -> None:
    layer = only(product(graph))
    of = Predictor(FAST_BYTES, {"S": 128}).of(layer, None)
    assert of.compute == pytest.approx(2 * 128 * 256 * 512 / 100e9)
    assert of.memory == pytest.approx(4 * (128 * 256 + 256 * 512 + 128 * 512) / 10e9)
    assert (of.seconds, of.limit) == (of.compute, "compute")
    one = Predictor(FAST_BYTES, {"S": 1}).of(layer, None)
    assert (one.seconds, one.limit) == (one.memory, "memory")


def test_bytes_are_computed_at_their_rate_and_rounded_first(graph: Graph) -> None:
    predictor, layer = Predictor(FAST_BYTES, {"S": 128}), only(product(graph))
    products, rounding = 2 * 128 * 256 * 512 / 400e9, 128 * 256 / 50e9
    assert predictor.of(layer, INT8).compute == pytest.approx(products + 4 * rounding)
    assert predictor.of(layer, DYNAMIC).compute == pytest.approx(products + 8 * rounding)


def test_a_type_without_a_rate_is_computed_in_f32(graph: Graph) -> None:
    predictor, layer = Predictor(FAST_BYTES, {"S": 128}), only(product(graph))
    narrow = parse_format("bf16")
    assert predictor.of(layer, narrow).compute == predictor.of(layer, None).compute
    fast = Predictor(Rates({f32: 100, bf16: 200}, 10, ""), {"S": 128})
    assert fast.of(layer, narrow).compute == predictor.of(layer, None).compute / 2


@pytest.mark.parametrize(
    ("format", "size"),
    [("none", 4 * 512), ("int8", 512 + 4 * 16), ("bf16", 2 * 512), ("w4g32", 256 + 2 * 16)],
)
def test_weights_count_their_codes_and_scales(graph: Graph, format: str, size: int) -> None:
    assert weight_bytes(only(product(graph, 32, 16)), parse_format(format)) == size


def test_slow_bytes_are_refused_with_the_figures(graph: Graph) -> None:
    module = product(graph)
    with pytest.raises(CompileError, match="E0706") as caught:
        QuantizeLayers("int8-dynamic", None, Predictor(SLOW_BYTES, {"S": 128})).apply(module)
    text = str(caught.value)
    assert "ms (compute) in int8-dynamic, 0.336 ms (compute) in f32" in text
    assert "S=128" in text
    assert "made up" in text


def test_where_memory_is_the_limit_slow_bytes_pay(graph: Graph) -> None:
    (made,) = choices(parse_quantize("int8-dynamic"), layers(product(graph)), at(1))
    assert made.format == DYNAMIC


def test_weights_alone_are_taken_for_their_bytes(graph: Graph) -> None:
    (made,) = choices(parse_quantize("w4g32"), layers(product(graph)), at(128))
    assert made.format == parse_format("w4g32")


def at(size: int) -> Predictor:
    return Predictor(SLOW_BYTES, {"S": size})


def test_a_layer_of_few_outputs_stays_beside_one_that_gains(graph: Graph) -> None:
    g = graph(x="f32 S, 256")
    wide = g.matmul(g["x"], g.fixed(g.random.standard_normal((256, 512))))
    module = g.returning(g.matmul(wide, g.fixed(g.random.standard_normal((512, 2)))))
    recipe = parse_quantize("int8-dynamic")
    made = choices(recipe, layers(module), Predictor(FAST_BYTES, {"S": 128}))
    assert [c.format for c in made] == [DYNAMIC, None]
    assert made[1].why.startswith("slower: ")
    assert [c.format for c in choices(recipe, layers(module))] == [DYNAMIC, DYNAMIC]


def test_channels_apart_are_no_dots_of_bytes(graph: Graph) -> None:
    g = graph(x="f32 1, 32, 40, 40")
    module = g.returning(g.conv(g["x"], 32, 3, groups=32))
    layer = only(module)
    assert Predictor(FAST_BYTES, {}).of(layer, INT8).compute > layer_compute(layer)


def layer_compute(layer: Layer) -> float:
    return Predictor(FAST_BYTES, {}).of(layer, None).compute


def test_who_wants_the_bytes_says_always(graph: Graph) -> None:
    slow, module = Predictor(SLOW_BYTES, {"S": 128}), product(graph)
    with pytest.raises(CompileError, match="int8-dynamic,always"):
        choices(parse_quantize("int8-dynamic"), layers(module), slow)
    (choice,) = choices(parse_quantize("int8-dynamic,always"), layers(module), slow)
    assert choice.format == choice.asked == parse_format("int8-dynamic,always")


def test_few_rows_of_few_bits_are_looked_up_at_their_rate(graph: Graph) -> None:
    rates = Rates({f32: 100, i8: 80}, 10, "", LookUps(2, 240))
    at = Predictor(rates, {"S": 4})
    few = only(product(graph, rows="4"))
    rounding = 8 * 4 * 256 / 50e9
    for name, rate in (("w1g32", 240), ("w2g32", 120), ("w3g32", 80)):
        compute = 2 * 4 * 256 * 512 / rate / 1e9
        assert at.of(few, parse_format(name)).compute == pytest.approx(compute + rounding)
    # Kernels are chosen for all sizes that there may be, not for the one asked about.
    many = only(product(graph))
    assert at.of(many, parse_format("w1g32")).compute == at.of(many, parse_format("w3g32")).compute

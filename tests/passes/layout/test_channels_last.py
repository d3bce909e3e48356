"""Channels-last leaves transpositions at the edges of a graph only, and the same numbers."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.norm import LayerNormOp, SoftmaxOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.resample import ResizeOp
from tapeout.ir.ops.views import ConcatOp, PadOp
from tapeout.ir.types import spec
from tapeout.passes.layout.channels_last import ChannelsLast
from tapeout.passes.pipeline import LAYOUT, SIMPLIFY

SIZES = ({"B": 2, "S": 8}, {"B": 1, "S": 16})


def transposed_inside(module: Module) -> int:
    """Transpositions of anything but an input of the module, or for anything but an output."""
    found = 0
    for op in module.ir.walk():
        if op.name == "nn.transpose":
            edge = op.operands[0] in next(module.entries()).body.block.args
            last = all(use.operation.name == "nn.return" for use in op.results[0].uses)
            found += not (edge or last)
    return found


def channels_first(module: Module) -> int:
    return sum(isinstance(op, ConvOp) and not op.channels_last.data for op in module.ir.walk())


def pool(g: Any, x: Any, fn: str, kernel: int, stride: int, pad: int) -> Any:
    sizes = tuple((d + 2 * pad - kernel) // stride + 1 for d in spec(x).dims[2:])
    return g.op(
        PoolOp, x, fn=fn, kernel=(kernel,) * 2, strides=(stride,) * 2, pads=(pad,) * 4,
        dilations=(1, 1), sizes=sizes,
    )  # fmt: skip


def batch_norm(g: Any, x: Any) -> Any:
    n = int(spec(x).dims[1])
    scale = g.fixed(np.abs(g.random.standard_normal((n, 1, 1))) + 0.5)
    return g.map("add", g.map("mul", x, scale), g.weight(n, 1, 1))


def relu(g: Any, x: Any) -> Any:
    return g.map("relu", x)


def head(g: Any, x: Any, classes: int = 5) -> Any:
    """Global mean, flatten, a linear layer."""
    n, c = spec(x).dims[:2]
    flat = g.reshape(g.mean(x, (2, 3)), (n, c))
    return g.map("add", g.matmul(flat, g.weight(int(c), classes)), g.weight(classes))


def resnet(g: Any, x: Any) -> Any:
    y = pool(g, relu(g, batch_norm(g, g.conv(x, 8, 3, strides=(2, 2)))), "max", 3, 1, 1)
    for _ in range(2):
        inner = relu(g, batch_norm(g, g.conv(y, 4, 1)))
        inner = batch_norm(g, g.conv(relu(g, batch_norm(g, g.conv(inner, 4, 3))), 8, 1))
        y = relu(g, g.map("add", inner, y))
    return head(g, y)


def mobilenet(g: Any, x: Any) -> Any:
    y = g.conv(x, 8, 3, strides=(2, 2))
    for _ in range(2):
        wide = g.map("min", g.map("max", g.conv(y, 24, 1), g.fixed(0)), g.fixed(6))
        deep = g.map("min", relu(g, g.conv(wide, 24, 3, groups=24)), g.fixed(6))
        y = g.map("add", g.conv(deep, 8, 1), y)
    return head(g, y)


def squeeze(g: Any, x: Any) -> Any:
    y = relu(g, g.conv(x, 8, 3))
    for _ in range(2):
        small = relu(g, g.conv(y, 4, 1))
        y = g.op(ConcatOp, [relu(g, g.conv(small, 6, 1)), relu(g, g.conv(small, 6, 3))], axis=1)
    y = g.op(SoftmaxOp, g.mean(relu(g, g.conv(y, 5, 1)), (2, 3)), axis=1)
    return g.reshape(y, spec(y).dims[:2])


def densenet(g: Any, x: Any) -> Any:
    y = g.conv(x, 6, 3)
    for _ in range(3):
        new = g.conv(relu(g, batch_norm(g, g.conv(relu(g, batch_norm(g, y)), 8, 1))), 4, 3)
        y = g.op(ConcatOp, [y, new], axis=1)
    return head(g, pool(g, relu(g, batch_norm(g, y)), "mean", 2, 2, 0))


def inception(g: Any, x: Any) -> Any:
    y = relu(g, g.conv(x, 8, 3))
    for _ in range(2):
        parts = [
            relu(g, g.conv(y, 4, 1)),
            relu(g, g.conv(relu(g, g.conv(y, 4, 1)), 6, 3)),
            relu(g, g.conv(pool(g, y, "max", 3, 1, 1), 4, 1)),
        ]
        y = g.op(ConcatOp, parts, axis=1)
    return head(g, local_response(g, y))


def local_response(g: Any, x: Any) -> Any:
    """Normalisation over neighbouring channels, as the importer writes it."""
    n, c, h, w = spec(x).dims
    rows = g.reshape(x, (n, 1, c, h * w))
    window = {"kernel": (5, 1), "strides": (1, 1), "pads": (2, 0, 2, 0), "dilations": (1, 1)}
    square = g.map("mul", rows, rows)
    total = g.op(PoolOp, square, fn="sum", sizes=(c, h * w), **window)
    base = g.map("add", g.map("mul", total, g.fixed(2e-2)), g.fixed(1))
    return g.reshape(g.map("div", rows, g.map("pow", base, g.fixed(0.75))), (n, c, h, w))


def shuffled(g: Any, x: Any, groups: int) -> Any:
    n, c, h, w = spec(x).dims
    parts = g.transpose(g.reshape(x, (n, groups, c // groups, h, w)), (0, 2, 1, 3, 4))
    return g.reshape(parts, (n, c, h, w))


def shufflenet(g: Any, x: Any) -> Any:
    y = relu(g, g.conv(x, 8, 3))
    for _ in range(2):
        inner = shuffled(g, relu(g, g.conv(y, 8, 1, groups=2)), 2)
        inner = g.conv(g.conv(inner, 8, 3, groups=8), 8, 1, groups=2)
        y = relu(g, g.map("add", inner, y))
    return head(g, y)


def squeeze_excite(g: Any, x: Any) -> Any:
    y = relu(g, g.conv(x, 8, 3))
    gate = g.map("sigmoid", g.conv(relu(g, g.conv(g.mean(y, (2, 3)), 4, 1)), 8, 1))
    return head(g, g.conv(g.map("mul", y, gate), 6, 3))


def convnext(g: Any, x: Any) -> Any:
    """Blocks that turn to channels-last by themselves, for a layer norm and linear layers."""
    y = g.conv(x, 8, 2, strides=(2, 2), pads=(0,) * 4)
    for _ in range(2):
        rows = g.transpose(g.conv(y, 8, 3, groups=8), (0, 2, 3, 1))
        rows = g.op(LayerNormOp, rows, g.weight(8), g.weight(8), axis=-1, epsilon=1e-5)
        rows = g.matmul(g.map("gelu", g.matmul(rows, g.weight(8, 16))), g.weight(16, 8))
        y = g.map("add", g.transpose(rows, (0, 3, 1, 2)), y)
    return head(g, y)


def upsampled(g: Any, x: Any) -> Any:
    y = g.conv(x, 8, 3, strides=(2, 2))
    up = g.op(ResizeOp, y, sizes=spec(y).dims[:2] + tuple(2 * d for d in spec(y).dims[2:]))
    zero, one = as_expr(0), as_expr(1)
    up = g.op(PadOp, up, None, low=(zero, zero, one, zero), high=(zero, zero, zero, one))
    return g.conv(g.part(up, 1, 2, 4), 5, 3)


def patches(g: Any, x: Any) -> Any:
    y = g.conv(x, 12, 4, strides=(4, 4), pads=(0,) * 4)
    n, c, h, w = spec(y).dims
    return g.matmul(g.transpose(g.reshape(y, (n, c, h * w)), (0, 2, 1)), g.weight(12, 7))


MODELS = [
    *(resnet, mobilenet, squeeze, densenet, inception),
    *(squeeze_excite, convnext, upsampled, patches),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("batch", ["B", "1"])
def test_transpositions_stay_at_the_edges(graph: Any, check: Any, model: Any, batch: Any) -> None:
    g = graph(x=f"f32 {batch}, 3, 16, 16")
    module = g.returning(model(g, g["x"]))
    check(module, [*SIMPLIFY, *LAYOUT], *SIZES, rtol=1e-5, atol=1e-6)
    assert transposed_inside(module) == 0
    assert channels_first(module) == 0


@pytest.mark.parametrize("batch", ["B", "1"])
def test_a_shuffle_of_channels_stays_one_transposition(graph: Any, check: Any, batch: Any) -> None:
    g = graph(x=f"f32 {batch}, 3, 16, 16")
    module = g.returning(shufflenet(g, g["x"]))
    left = check(module, [*SIMPLIFY, *LAYOUT], *SIZES, rtol=1e-5)
    assert transposed_inside(module) == 2
    assert left["transpose"] == 3


def test_lengths_that_vary_do_not_hinder(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, S, S")
    module = g.returning(resnet(g, g["x"]))
    check(module, [*SIMPLIFY, *LAYOUT], *SIZES, rtol=1e-5)
    assert transposed_inside(module) == 0


def test_flattened_features_move_the_rows_of_the_weight(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, 6, 5")
    y = relu(g, g.conv(g["x"], 4, 3))
    flat = g.reshape(y, (spec(y).dims[0], 120))
    module = g.returning(g.matmul(flat, g.weight(120, 7)))
    left = check(module, [ChannelsLast()], *SIZES, rtol=1e-5)
    assert left == {"transpose": 1, "conv": 1, "relu": 1, "reshape": 1, "matmul": 1}


def test_flattened_features_move_the_columns_of_a_transposed_weight(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, 6, 5")
    y = g.conv(g["x"], 4, 3)
    flat = g.reshape(y, (spec(y).dims[0], 120))
    module = g.returning(g.matmul(flat, g.weight(7, 120), transpose_b=True))
    assert check(module, [ChannelsLast()], *SIZES, rtol=1e-5)["transpose"] == 1


def test_an_output_in_channels_first_is_turned_once(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, 6, 5")
    module = g.returning(relu(g, g.conv(relu(g, g.conv(g["x"], 4, 3)), 5, 3)))
    assert check(module, [ChannelsLast()], *SIZES, rtol=1e-5)["transpose"] == 2


def test_a_sum_with_more_foreign_operands_does_not_turn_them(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, 6, 5", z="f32 B, 4, 6, 5")
    module = g.returning(g.map("add", g.conv(g["x"], 4, 3), g["z"]))
    left = check(module, [ChannelsLast()], *SIZES, rtol=1e-5)
    assert left == {"transpose": 2, "conv": 1, "add": 1}


def test_one_dimensional_convolutions_turn_too(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, S")
    window = {"strides": (1,), "pads": (1, 1), "dilations": (1,)}
    y = g.op(ConvOp, g["x"], g.weight(4, 3, 3), None, **window)
    y = g.op(ConvOp, g.map("gelu", y), g.weight(6, 4, 3), None, **window)
    module = g.returning(g.transpose(y, (0, 2, 1)))
    assert check(module, [ChannelsLast()], *SIZES, rtol=1e-5)["transpose"] == 1


def test_a_graph_without_convolutions_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 3, 8, 8")
    y = pool(g, g["x"], "max", 2, 2, 0)
    assert check(g.returning(g.transpose(y, (0, 2, 3, 1))), [ChannelsLast()], *SIZES) == {
        "pool": 1,
        "transpose": 1,
    }

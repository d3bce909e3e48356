"""The same kernels at sizes that nobody chose: no multiple of lanes, tiles or blocks is special.

Each case is drawn from the seed in its name; ``TAPEOUT_SEED=N`` draws others.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.expr import ceildiv
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.norm import LayerNormOp, SoftmaxOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec

Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]
Random = np.random.Generator

FIRST = int(os.environ.get("TAPEOUT_SEED", "1"))


@pytest.fixture(params=range(FIRST, FIRST + 3), ids="seed {}".format)
def random(request: pytest.FixtureRequest) -> Random:
    """What draws a case."""
    return np.random.default_rng(request.param)


def below(random: Random, most: int) -> int:
    """A size from 1 to ``most``, small ones as often as large ones."""
    return max(1, int(math.exp(random.uniform(0, math.log(most + 1)))))


def sizes(random: Random) -> list[dict[str, int]]:
    """Values of the symbols for two runs."""
    return [{"B": below(random, 3), "S": below(random, 40), "T": below(random, 40)} for _ in "12"]


def test_products(graph: Graph, lowers: Lowers, random: Random) -> None:
    inner, columns = below(random, 40), below(random, 70)
    g = graph(x=f"f32 B, S, {inner}", r=f"f32 B, S, {columns}")
    transposed = bool(random.integers(2))
    w = g.weight(*((columns, inner) if transposed else (inner, columns)))
    y = g.map("add", g.matmul(g["x"], w, transpose_b=transposed), g.weight(columns))
    lowers(g.returning(g.map("add", g.map("tanh", y), g["r"])), *sizes(random))


def test_products_of_activations(graph: Graph, lowers: Lowers, random: Random) -> None:
    inner = below(random, 40)
    g = graph(a=f"f32 B, S, {inner}", b=f"f32 B, {inner}, T")
    lowers(g.returning(g.matmul(g["a"], g["b"])), *sizes(random))


def test_convolutions(graph: Graph, lowers: Lowers, random: Random) -> None:
    groups = int(random.integers(1, 4))
    inputs, outputs = groups * below(random, 6), groups * below(random, 20)
    kernel = int(random.choice([1, 2, 3, 5]))
    height, width = (kernel + below(random, 9) for _ in "hw")
    attrs = {
        "strides": tuple(map(int, random.integers(1, 4, 2))),
        "pads": tuple(map(int, random.integers(0, kernel, 4))),
        "groups": groups,
    }
    g = graph(x=f"f32 B, {inputs}, {height}, {width}")
    y = g.conv(g["x"], outputs, kernel, **attrs)
    lowers(g.returning(g.map("relu", y)), {"B": below(random, 3)})


def test_windows(graph: Graph, lowers: Lowers, random: Random) -> None:
    channels, (height, width) = below(random, 40), random.integers(3, 12, 2)
    kernel, strides = random.integers(1, 4, 2), random.integers(1, 4, 2)
    g = graph(x=f"f32 B, {channels}, {height}, {width}")
    spans = (n - k for n, k in zip(spec(g["x"]).dims[2:], kernel, strict=True))
    y = g.op(
        PoolOp,
        g["x"],
        fn=str(random.choice(["max", "mean"])),
        kernel=tuple(map(int, kernel)),
        strides=tuple(map(int, strides)),
        pads=(0,) * 4,
        dilations=(1, 1),
        sizes=tuple(ceildiv(s + 1, int(d)) for s, d in zip(spans, strides, strict=True)),
    )
    lowers(g.returning(y), {"B": below(random, 3)})


def test_attention(graph: Graph, lowers: Lowers, random: Random) -> None:
    depth, values, groups = below(random, 20), below(random, 20), below(random, 3)
    heads = groups * below(random, 3)
    g = graph(
        q=f"f32 B, {heads}, S, {depth}",
        k=f"f32 B, {groups}, T, {depth}",
        v=f"f32 B, {groups}, T, {values}",
        mask="f32 S, T",
    )
    y = g.op(AttentionOp, g["q"], g["k"], g["v"], g["mask"], scale=0.3)
    lowers(g.returning(y), *sizes(random))


def test_norms_and_reductions(graph: Graph, lowers: Lowers, random: Random) -> None:
    middle, width = below(random, 9), below(random, 70)
    g = graph(x=f"f32 B, {middle}, S, {width}")
    y = g.op(LayerNormOp, g["x"], g.weight(width), None, axis=-1, epsilon=1e-5)
    y = g.op(SoftmaxOp, y, axis=int(random.integers(4)))
    axes = tuple(np.flatnonzero(random.integers(0, 2, 4)).tolist()) or (2,)
    total = g.op(ReduceOp, y, fn="sum", axes=axes, keepdims=False)
    lowers(g.returning(y, g.map("neg", total)), *sizes(random))


def test_concatenations(graph: Graph, lowers: Lowers, random: Random) -> None:
    axis = int(random.integers(3))
    parts: dict[str, str] = {}
    for name in "xyz":
        shape: list[object] = ["B", 5, "S"]
        shape[axis] = below(random, 20)
        parts[name] = "f32 " + ", ".join(map(str, shape))
    g = graph(**parts)
    y = g.op(ConcatOp, [g[n] for n in "xyz"], axis=axis)
    lowers(g.returning(g.map("exp", y)), *sizes(random))

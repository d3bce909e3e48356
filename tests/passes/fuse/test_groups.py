"""What runs together: which operators join, which stay apart, which kernels are shared."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, u8
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.norm import LayerNormOp, SoftmaxOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.structure import CallOp
from tapeout.passes.fuse.outline import Fuse

Graph = Callable[..., Any]
Check = Callable[..., Any]


def kernels(module: Module) -> list[list[str]]:
    """The operators of every kernel: functions of maps, names of others."""
    return [
        [
            str(op.fn.data) if isinstance(op, MapOp) else op.name[3:]
            for op in kernel.body.block.ops
            if op.name not in ("nn.return", "nn.constant")
        ]
        for kernel in module.kernels().values()
    ]


def calls(module: Module) -> list[str]:
    return [op.callee.data for e in module.entries() for op in e.walk() if isinstance(op, CallOp)]


def test_a_softmax_is_one_kernel(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, S")
    module = g.returning(g.op(SoftmaxOp, g["x"], axis=-1))
    check(module, [Fuse()], {"B": 2, "S": 5})
    assert kernels(module) == [["softmax"]]


def test_bias_activation_and_residual_join_the_product(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8", r="f32 B, 6")
    y = g.map("gelu", g.map("add", g.matmul(g["x"], g.weight(8, 6)), g.weight(6)))
    module = g.returning(g.map("add", y, g["r"]))
    check(module, [Fuse()], {"B": 3})
    assert kernels(module) == [["matmul", "add", "gelu", "add"]]


def test_two_products_are_two_kernels(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    y = g.map("relu", g.matmul(g["x"], g.weight(8, 8)))
    module = g.returning(g.matmul(y, g.weight(8, 4)))
    check(module, [Fuse()], {"B": 3})
    assert kernels(module) == [["matmul", "relu"], ["matmul"]]


def test_a_product_is_computed_once_for_two_readers(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    y = g.matmul(g["x"], g.weight(8, 8))
    module = g.returning(g.map("exp", y), g.map("tanh", y))
    check(module, [Fuse()], {"B": 3})
    assert sum(ops.count("matmul") for ops in kernels(module)) == 1


def test_an_elementwise_chain_is_one_kernel(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, S", y="f32 B, S")
    z = g.map("mul", g.map("exp", g["x"]), g.map("tanh", g["y"]))
    module = g.returning(g.map("add", z, g["x"]))
    check(module, [Fuse()], {"B": 2, "S": 3})
    assert len(kernels(module)) == 1


def test_the_residual_of_a_norm_stays_in_memory(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    y = g.map("exp", g["x"])
    norm = g.op(LayerNormOp, y, g.weight(8), g.weight(8), axis=-1, epsilon=1e-5)
    module = g.returning(g.map("add", norm, y))
    check(module, [Fuse()], {"B": 3})
    assert ["layer_norm", "add"] in [ops[-2:] for ops in kernels(module)]


def test_heads_are_views_of_their_attention(graph: Graph, check: Check) -> None:
    g = graph(q="f32 B, S, 2, 4", k="f32 B, S, 2, 4", v="f32 B, S, 2, 4")
    heads = [g.transpose(g[n], (0, 2, 1, 3)) for n in "qkv"]
    y = g.transpose(g.op(AttentionOp, *heads, None, scale=0.5), (0, 2, 1, 3))
    module = g.returning(y)
    check(module, [Fuse()], {"B": 1, "S": 3})
    assert len(kernels(module)) == 1


def test_equal_layers_share_their_kernels(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    x = g["x"]
    for _ in range(5):
        y = g.map("add", g.matmul(x, g.weight(8, 8)), g.weight(8))
        x = g.op(LayerNormOp, g.map("gelu", y), g.weight(8), g.weight(8), axis=-1, epsilon=1e-5)
    module = g.returning(x)
    check(module, [Fuse()], {"B": 3})
    assert len(kernels(module)) == 2
    assert len(calls(module)) == 10


def test_kernels_of_other_sizes_are_not_shared(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8", y="f32 B, 9")
    module = g.returning(g.map("exp", g["x"]), g.map("exp", g["y"]))
    check(module, [Fuse()], {"B": 3})
    assert len(kernels(module)) == 2


MOVES = ("map", "pair", "reduce", "softmax", "product", "transpose", "broadcast", "slice")


def grown(g: Any, random: np.random.Generator, steps: int) -> list[SSAValue]:
    """Values of ``[6, 6]`` in a random graph, whose readers may stand anywhere after them."""
    pool: list[SSAValue] = [g["x"], g["y"]]
    for _ in range(steps):
        a, b = (pool[int(random.integers(len(pool)))] for _ in range(2))
        match MOVES[int(random.integers(len(MOVES)))]:
            case "map":
                made = g.map(str(random.choice(["exp", "tanh", "relu", "neg"])), a)
            case "pair":
                made = g.map(str(random.choice(["add", "sub", "max"])), a, b)
            case "reduce":
                made = g.map("sub", a, g.reduce("max", a, (1,)))
            case "softmax":
                made = g.op(SoftmaxOp, a, axis=-1)
            case "product":
                made = g.map("mul", g.matmul(g.map("tanh", a), b), g.fixed(0.1))
            case "transpose":
                made = g.transpose(a, (1, 0))
            case "broadcast":
                made = g.map("add", a, g.mean(b, (0,)))
            case _:
                made = g.map("add", g.part(a, 1, 0, 6), b)
        pool.append(g.map("tanh", made))
    return pool


@pytest.mark.parametrize("seed", range(40))
def test_no_group_reads_a_value_before_it_exists(seed: int, graph: Graph, check: Check) -> None:
    random = np.random.default_rng(seed)
    g = graph(x="f32 6, 6", y="f32 6, 6")
    pool = grown(g, random, 14)
    chosen = random.choice(len(pool) - 2, 4, replace=False) + 2
    module = g.returning(*(pool[int(i)] for i in chosen))
    check(module, [Fuse()], rtol=1e-5, atol=1e-6)
    for entry in module.entries():
        order = {op: i for i, op in enumerate(entry.body.block.ops)}
        for op, place in order.items():
            owners = [v.owner for v in op.operands if v.owner in order]
            assert all(order[owner] < place for owner in owners), f"seed {seed}: {op}"


def codes_and_back(g: Any, y: SSAValue) -> SSAValue:
    """What bytes of a product stand for."""
    codes = g.op(ConvertOp, g.map("round", y), to=u8, saturate=True)
    return g.map("mul", g.convert(codes, f32), g.weight(6))


def test_codes_that_meet_a_product_are_read_as_bytes(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    skipped = codes_and_back(g, g.matmul(g["x"], g.weight(8, 6)))
    module = g.returning(g.map("add", g.matmul(g["x"], g.weight(8, 6)), skipped))
    check(module, [Fuse()], {"B": 3})
    assert kernels(module)[0] == ["matmul", "round", "convert"]


def test_codes_that_end_a_model_are_not_stored(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, 8")
    module = g.returning(codes_and_back(g, g.matmul(g["x"], g.weight(8, 6))))
    check(module, [Fuse()], {"B": 3})
    assert kernels(module) == [["matmul", "round", "convert", "convert", "mul"]]

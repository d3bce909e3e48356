"""Costs are expressions in the symbols of the module."""

from tapeout.ir.cost import cost_of
from tapeout.ir.dtypes import f32
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec

S = symbol("S", 1, 512)


def spec(*dims: Expr | int) -> Spec:
    return Spec(tuple(map(as_expr, dims)), f32)


def test_a_product_and_a_map_add_up() -> None:
    entry = EntryOp("main", [("a", spec(S, 64)), ("b", spec(64, 32))], ["y"])
    a, b = entry.body.block.args
    product = MatmulOp.make(a, b)
    entry.body.block.add_ops(
        [product, half := MapOp.make((product.y,), fn="relu"), ReturnOp([half.y])]
    )
    module = Module()
    module.ir.body.block.add_op(entry)
    cost = cost_of(module)
    assert cost.flops == S * 64 * 32 * 2 + S * 32
    assert cost.bytes == (S * 64 + 64 * 32 + S * 32) * 4 + S * 32 * 2 * 4


def test_a_convolution_counts_each_tap_of_its_group() -> None:
    flops = ConvOp.cost(
        spec(1, 64, 56, 56),
        spec(128, 16, 3, 3),
        None,
        strides=(1, 1),
        pads=(1, 1, 1, 1),
        dilations=(1, 1),
        groups=4,
        channels_last=False,
    )
    assert flops == 128 * 56 * 56 * 16 * 9 * 2


def test_attention_grows_with_the_square_of_the_length() -> None:
    q = spec(1, 12, S, 64)
    flops = AttentionOp.cost(
        q, q, q, None, scale=0.125, causal=False, causal_offset=(as_expr(0),), softcap=0.0
    )
    assert flops == 12 * S * S * (4 * 64 + 6)

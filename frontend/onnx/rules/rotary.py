"""What stands around attention in a language model: rotary embedding, caches, gates."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import (
    insert_axis,
    join_heads,
    need_rank,
    one_of,
    split_heads,
)
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ExprLike
from tapeout.ir.ops.attention import RotaryOp
from tapeout.ir.ops.index import GatherOp, ScatterElementsOp
from tapeout.ir.shapes import check_axis


@rule("RotaryEmbedding")
def rotary_embedding(
    b: Builder, node: Call, x: Value, cos: Value, sin: Value, places: Value | None = None
) -> Value:
    """Pairs of channels turned by the angles of their place.

    ``x`` is ``[B, H, S, D]`` or ``[B, S, H * D]``; ``cos`` and ``sin`` are tables by place, or
    already ``[B, S, R / 2]`` when no places are given.
    """
    packed = x.rank == 3
    if packed:
        heads = node.integer("num_heads")
        if heads < 1:
            node.invalid("attribute 'num_heads' is not positive", ("num_heads", heads))
        x = split_heads(b, x, heads)
    y = b.make(
        RotaryOp,
        x,
        _angles(b, cos, places),
        _angles(b, sin, places),
        interleaved=node.flag("interleaved"),
        rotary_dim=node.integer("rotary_embedding_dim") or None,
    )
    return join_heads(b, y) if packed else y


def _angles(b: Builder, table: Value, places: Value | None) -> Value:
    """``[B, 1, S, R / 2]``."""
    picked = table if places is None else b.make(GatherOp, table, places, axis=0)
    return insert_axis(b, picked, 1)


@rule("TensorScatter")
def tensor_scatter(
    b: Builder, node: Call, cache: Value, update: Value, starts: Value | None = None
) -> Value:
    """``cache`` with ``update`` written from ``starts[batch]`` on along ``axis``."""
    axis = check_axis(node.integer("axis", -2), cache.rank, "TensorScatter")
    need_rank(node, "the update", update, cache.rank)
    if starts is not None:
        need_rank(node, "the starts", starts, 1)
    mode = one_of(node, "mode", "linear", ("linear", "circular"))
    if axis == 0:
        node.invalid("axis 0 is the batch", ("axis", axis))
    dims: list[ExprLike] = [1] * cache.rank
    dims[axis] = update.dims[axis]
    place = b.iota(dims, axis)
    if starts is not None:
        first = b.reshape(b.convert(starts, i64), [starts.dims[0], *[1] * (cache.rank - 1)])
        place = b.map("add", place, first)
    if mode == "circular":
        place = b.map("floor_mod", place, b.size(cache.dims[axis]))
    indices = b.expand(place, update.dims)
    return b.make(ScatterElementsOp, cache, indices, update, axis=axis)


@rule("SwiGLU")
def swiglu(b: Builder, node: Call, gate: Value, up: Value) -> Value:
    """``gate * sigmoid(alpha * gate) * up``."""
    alpha = node.real("alpha", 1.0)
    if alpha == 1.0:
        return b.map("mul", b.map("silu", gate), up)
    gated = b.map("mul", gate, b.map("sigmoid", b.map("mul", gate, alpha)))
    return b.map("mul", gated, up)

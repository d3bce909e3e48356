"""What ONNX Runtime's GenAI writes in decoders: attention with a cache, rotary embedding."""

import math

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, insert_axis, join_heads, split_heads
from tapeout.frontend.onnx.rules.contrib import DOMAIN
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE, as_expr
from tapeout.ir.ops.attention import AttentionOp, RotaryOp
from tapeout.ir.ops.index import GatherOp


@rule("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(
    b: Builder,
    node: Call,
    q: Value,
    k: Value | None = None,
    v: Value | None = None,
    past_k: Value | None = None,
    past_v: Value | None = None,
    last: Value | None = None,
    total: Value | None = None,
    cos: Value | None = None,
    sin: Value | None = None,
    positions: Value | None = None,
    bias: Value | None = None,
    sink: Value | None = None,
) -> tuple[Value, ...]:
    """Causal attention of ``[B, S, H * D]``, its keys behind those of the past.

    Outputs: it, and keys and values with the past before them. ``last`` (the place of each
    sequence's last token) and ``total`` say which part of a padded batch is text: of one sequence
    nothing is padding, and only one is taken.
    """
    if q.dims[0] != ONE:
        node.refuse(
            "more than one sequence, of which parts may be padding",
            ("batch", q.dims[0]),
            fix="fix the batch: --dim batch_size=1",
        )
    if sink is not None or node.integer("smooth_softmax") > 0:
        node.refuse("attention sinks")
    many, few = node.integer("num_heads"), node.integer("kv_num_heads")
    if few < 1 or many < 1 or many % few:
        node.invalid("the numbers of heads do not fit", ("num_heads", many), ("kv_num_heads", few))
    if k is None or v is None:
        depth = fixed(node, q.dims[2], "packed heads") // (many + 2 * few)
        q, k, v = (
            b.slice_axis(q, 2, start * depth, heads * depth)
            for start, heads in ((0, many), (many, few), (many + few, few))
        )
    q, k, v = split_heads(b, q, many), split_heads(b, k, few), split_heads(b, v, few)
    before = as_expr(0) if past_k is None else past_k.dims[2]
    tokens = q.dims[2]
    if node.flag("do_rotary"):
        if cos is None or sin is None:
            node.invalid("rotary embedding needs tables of cosines and sines")
        if positions is None:
            positions = b.map("add", b.iota((1, tokens), 1), b.size(before))
        angles = [insert_axis(b, b.make(GatherOp, t, positions, axis=0), 1) for t in (cos, sin)]
        turned = 2 * fixed(node, cos.dims[1], "a rotated head")
        q, k = (
            b.make(
                RotaryOp,
                x,
                *angles,
                interleaved=node.flag("rotary_interleaved"),
                rotary_dim=turned,
            )
            for x in (q, k)
        )
    if past_k is not None and past_v is not None:
        k, v = b.concat([past_k, k], 2), b.concat([past_v, v], 2)
    y = b.make(
        AttentionOp,
        q,
        k,
        v,
        _mask(b, node, k, tokens=q, bias=bias),
        scale=node.real("scale") or 1 / math.sqrt(fixed(node, q.dims[3], "a head")),
        causal=True,
        causal_offset=(before,),
        softcap=node.real("softcap"),
    )
    return join_heads(b, y), k, v


def _mask(b: Builder, node: Call, k: Value, tokens: Value, bias: Value | None) -> Value | None:
    """The window of ``local_window_size`` keys up to a token's own, and what is added."""
    window = node.integer("local_window_size", -1)
    if window < 0:
        return bias
    queries, keys = tokens.dims[2], k.dims[2]
    place = b.map("add", b.iota([queries, 1], 0), b.size(keys - queries))
    seen = b.map("gt", b.iota([1, keys], 1), b.map("sub", place, window))
    if bias is None:
        return seen
    return b.map("where", seen, bias, b.scalar(-math.inf, bias.dtype))


@rule("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(
    b: Builder, node: Call, x: Value, positions: Value, cos: Value, sin: Value
) -> Value:
    """Pairs of channels turned by the angles of their place; ``x`` as ONNX's own operator.

    ``positions`` are ``[B, S]``, or one number: the place of the first token.
    """
    if node.flag("is_packed_batching"):
        node.refuse("sequences packed behind one another")
    turned = 2 * fixed(node, cos.dims[1], "a rotated head")
    packed = x.rank == 3
    if packed:
        heads = node.integer("num_heads")
        if heads < 1:
            # The tables tell the size of a head that is turned as a whole.
            heads = fixed(node, x.dims[2], "packed heads") // turned
        x = split_heads(b, x, heads)
    if positions.rank == 1:
        places = b.iota((x.dims[0], x.dims[2]), 1)
        positions = b.map("add", places, b.convert(positions, i64))
    y = b.make(
        RotaryOp,
        x,
        *(insert_axis(b, b.make(GatherOp, t, positions, axis=0), 1) for t in (cos, sin)),
        interleaved=node.flag("interleaved"),
        rotary_dim=turned,
    )
    y = y if node.real("scale", 1.0) == 1.0 else b.map("mul", y, node.real("scale"))
    return join_heads(b, y) if packed else y

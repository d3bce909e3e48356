"""Attention in all the forms of opsets 23 to 25."""

import math
from dataclasses import dataclass

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, join_heads, need_rank, split_heads, wide_type
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import Expr, as_expr, is_at_least, maximum
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.views import PadOp


@dataclass(frozen=True)
class Heads:
    """Queries ``[B, H, S, D]``, keys ``[B, G, T, D]`` and values ``[B, G, T, E]``.

    ``past`` is how many keys stand before the first query.
    """

    q: Value
    k: Value
    v: Value
    past: Expr


@dataclass(frozen=True)
class Bounds:
    """Which keys a query may see by its place; sides of the window are -1 when open."""

    causal: bool
    left: int
    right: int

    @property
    def windowed(self) -> bool:
        """Whether there is a sliding window."""
        return self.left >= 0 or self.right >= 0


@rule("Attention", since=23)
def attention(
    b: Builder,
    node: Call,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    past_k: Value | None = None,
    past_v: Value | None = None,
    lengths: Value | None = None,
) -> tuple[Value, ...]:
    """``softmax(cap(q @ k^T * scale) + mask) @ v``, with a cache and masks by place.

    Outputs: the result, keys and values with the past before them, and the scores at the stage
    that ``qk_matmul_output_mode`` names.
    """
    if lengths is not None:
        need_rank(node, "the lengths", lengths, 1)
    heads = _heads(b, node, q, k, v, past_k, past_v)
    bounds = _bounds(node)
    full = None if mask is None else _full_mask(b, mask, heads.k.dims[2])
    if node.wants(3):
        mixed, *scores = _explicit(b, node, heads, _all_masks(b, heads, full, bounds, lengths))
    elif lengths is not None or bounds.windowed:
        scores: list[Value] = []
        mixed = _fused(b, node, heads, _all_masks(b, heads, full, bounds, lengths), causal=False)
    else:
        scores = []
        mixed = _fused(b, node, heads, full, causal=bounds.causal)
    return join_heads(b, mixed) if q.rank == 3 else mixed, heads.k, heads.v, *scores


def _fused(b: Builder, node: Call, heads: Heads, mask: Value | None, *, causal: bool) -> Value:
    dtype = heads.q.dtype
    return b.make(
        AttentionOp,
        heads.q,
        b.convert(heads.k, dtype),
        b.convert(heads.v, dtype),
        mask if mask is None or mask.dtype is boolean else b.convert(mask, dtype),
        scale=_scale(node, heads),
        causal=causal,
        causal_offset=(heads.past if causal else as_expr(0),),
        softcap=node.real("softcap"),
    )


def _scale(node: Call, heads: Heads) -> float:
    """The attribute, or by default one over the square root of a head's size."""
    if node.has("scale"):
        return node.real("scale")
    return 1 / math.sqrt(max(fixed(node, heads.q.dims[3], "a head"), 1))


def _heads(
    b: Builder,
    node: Call,
    q: Value,
    k: Value,
    v: Value,
    past_k: Value | None,
    past_v: Value | None,
) -> Heads:
    if (past_k is None) != (past_v is None):
        node.invalid("past keys and past values come together")
    if not q.rank == k.rank == v.rank or q.rank not in (3, 4):
        node.invalid(
            "queries, keys and values have 3 axes or 4", ("ranks", (q.rank, k.rank, v.rank))
        )
    if q.rank == 3:
        many, few = node.integer("q_num_heads"), node.integer("kv_num_heads")
        if few < 1 or many < 1 or many % few:
            node.invalid(
                "the numbers of heads do not fit", ("q_num_heads", many), ("kv_num_heads", few)
            )
        q, k, v = split_heads(b, q, many), split_heads(b, k, few), split_heads(b, v, few)
    if past_k is None or past_v is None:
        return Heads(q, k, v, as_expr(0))
    need_rank(node, "the past", past_k, 4)
    past = past_k.dims[2]
    return Heads(q, b.concat([past_k, k], 2), b.concat([past_v, v], 2), past)


def _bounds(node: Call) -> Bounds:
    left, right = node.integer("left_window_size", -1), node.integer("right_window_size", -1)
    if min(left, right) < -1:
        node.invalid("a window size is below -1", ("left", left), ("right", right))
    return Bounds(node.flag("is_causal"), left, right)


def _full_mask(b: Builder, mask: Value, keys: Expr) -> Value:
    """A mask over all keys: those beyond its end are not seen."""
    have = mask.dims[-1]
    if have == keys or have == 1:
        return mask
    more = keys - have if is_at_least(keys, have) else maximum(keys - have, 0)
    high = (*[as_expr(0)] * (mask.rank - 1), more)
    fill = b.scalar(0 if mask.dtype is boolean else -math.inf, mask.dtype)
    return b.make(PadOp, mask, fill, low=(as_expr(0),) * mask.rank, high=high)


def _all_masks(
    b: Builder, heads: Heads, mask: Value | None, bounds: Bounds, lengths: Value | None
) -> Value | None:
    """The given mask and those by place as one: bool when all are, else a bias."""
    seen = _seen(b, heads, bounds, lengths)
    if seen is None:
        return mask
    if mask is None:
        return seen
    if mask.dtype is boolean:
        return b.map("and", mask, seen)
    return b.map("where", seen, mask, b.scalar(-math.inf, mask.dtype))


def _seen(b: Builder, heads: Heads, bounds: Bounds, lengths: Value | None) -> Value | None:
    """Which keys each query sees by its place: ``[S, T]``, or ``[B, 1, S, T]`` with lengths."""
    queries, keys = heads.q.dims[2], heads.k.dims[2]
    row = b.iota([queries, 1], 0)
    column = b.iota([1, keys], 1)
    kept: list[Value] = []
    if lengths is None:
        place = b.map("add", row, b.size(heads.past))
    else:
        count = b.reshape(b.convert(lengths, i64), [lengths.dims[0], 1, 1, 1])
        place = b.map("add", row, b.map("sub", count, b.size(queries)))
        kept.append(b.map("lt", column, count))
    if bounds.causal:
        kept.append(b.map("le", column, place))
    if bounds.left >= 0:
        kept.append(b.map("ge", column, b.map("sub", place, bounds.left)))
    if bounds.right >= 0:
        kept.append(b.map("le", column, b.map("add", place, bounds.right)))
    return _conjunction(b, kept)


def _conjunction(b: Builder, kept: list[Value]) -> Value | None:
    if not kept:
        return None
    made = kept[0]
    for each in kept[1:]:
        made = b.map("and", made, each)
    return made


def _explicit(b: Builder, node: Call, heads: Heads, mask: Value | None) -> tuple[Value, Value]:
    """The result and the scores, step by step, for a node that asks for the scores."""
    mode = node.integer("qk_matmul_output_mode")
    if mode not in range(4):
        node.invalid("unknown stage of the scores", ("qk_matmul_output_mode", mode))
    dtype = heads.q.dtype
    wide = wide_type(dtype)
    cap = node.real("softcap")
    q, k, v = (
        b.convert(repeat_heads(b, x, heads.q.dims[1]), wide) for x in (heads.q, heads.k, heads.v)
    )
    raw = b.map("mul", b.make(MatmulOp, q, k, transpose_b=True), _scale(node, heads))
    capped = b.map("mul", b.map("tanh", b.map("div", raw, cap)), cap) if cap > 0 else raw
    masked, probable = _masked_softmax(b, capped, mask)
    mixed = b.make(MatmulOp, probable, v)
    stage = (raw, capped, masked, probable)[mode]
    return b.convert(mixed, dtype), b.convert(stage, dtype)


def _masked_softmax(b: Builder, scores: Value, mask: Value | None) -> tuple[Value, Value]:
    """Masked scores and their softmax; a query that sees no key has probabilities of 0."""
    if mask is None:
        return scores, b.make(SoftmaxOp, scores, axis=-1)
    zero, never = b.scalar(0, scores.dtype), b.scalar(-math.inf, scores.dtype)
    bias = b.map("where", mask, zero, never) if mask.dtype is boolean else mask
    bias = b.convert(bias, scores.dtype)
    masked = b.map("add", scores, bias)
    highest = b.reduce("max", bias, [-1], keepdims=True)
    probable = b.make(SoftmaxOp, masked, axis=-1)
    return masked, b.map("where", b.map("eq", highest, -math.inf), zero, probable)


def repeat_heads(b: Builder, x: Value, heads: Expr) -> Value:
    """``[B, G, T, D]`` with each of the ``G`` heads repeated, to ``[B, heads, T, D]``."""
    batch, groups, length, depth = x.dims
    if groups == heads:
        return x
    split = b.reshape(x, [batch, groups, 1, length, depth])
    wide = b.expand(split, [batch, groups, heads // groups, length, depth])
    return b.reshape(wide, [batch, heads, length, depth])

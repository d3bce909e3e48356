"""Operators of ONNX Runtime's own domain that its exporters and optimisers write."""

import math

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, join_heads, split_heads
from tapeout.frontend.onnx.rules.norm import moments
from tapeout.frontend.onnx.rules.product import matmul
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp
from tapeout.ir.shapes import check_axis

DOMAIN = "com.microsoft"


@rule("Gelu", domain=DOMAIN)
def gelu(b: Builder, node: Call, x: Value) -> Value:
    """``x * (1 + erf(x / sqrt(2))) / 2``."""
    return b.map("gelu", x)


@rule("BiasGelu", domain=DOMAIN)
def bias_gelu(b: Builder, node: Call, x: Value, bias: Value) -> Value:
    """The same of ``x + bias``."""
    return b.map("gelu", b.map("add", x, bias))


@rule("FastGelu", domain=DOMAIN)
def fast_gelu(b: Builder, node: Call, x: Value, bias: Value | None = None) -> Value:
    """The form with tanh, of ``x + bias``."""
    return b.map("gelu_tanh", x if bias is None else b.map("add", x, bias))


@rule("QuickGelu", domain=DOMAIN)
def quick_gelu(b: Builder, node: Call, x: Value) -> Value:
    """``x * sigmoid(alpha * x)``."""
    return b.map("mul", x, b.map("sigmoid", b.map("mul", x, node.real("alpha", 1.702))))


@rule("FusedMatMul", domain=DOMAIN)
def fused_matmul(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """``alpha * x @ y``, either of them transposed first."""
    if node.flag("transBatchA") or node.flag("transBatchB"):
        node.refuse("products whose batch axis is transposed")
    x = _transposed(b, x) if node.flag("transA") else x
    y = _transposed(b, y) if node.flag("transB") else y
    alpha = node.real("alpha", 1.0)
    made = matmul(b, node, x, y)
    return made if alpha == 1.0 else b.map("mul", made, alpha)


def _transposed(b: Builder, x: Value) -> Value:
    return b.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2)) if x.rank > 1 else x


# ONNX Runtime reads this name in ONNX's own domain, where ONNX does not define it.
@rule("SimplifiedLayerNormalization")
@rule("SimplifiedLayerNormalization", domain=DOMAIN)
def simplified_layer_norm(b: Builder, node: Call, x: Value, scale: Value) -> Value:
    """Root mean square normalisation from ``axis`` on."""
    axis = check_axis(node.integer("axis", -1), x.rank, "SimplifiedLayerNormalization")
    return b.make(RmsNormOp, x, scale, axis=axis, epsilon=node.real("epsilon", 1e-5))


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_norm(
    b: Builder,
    node: Call,
    x: Value,
    skip: Value,
    scale: Value,
    shift: Value | None = None,
    bias: Value | None = None,
) -> tuple[Value, ...]:
    """Layer norm of ``x + skip + bias``; outputs: it, mean, 1 / deviation, and the sum."""
    total = _sum(b, x, skip, bias)
    epsilon = node.real("epsilon", 1e-12)
    y = b.make(LayerNormOp, total, scale, shift, axis=-1, epsilon=epsilon)
    if not (node.wants(1) or node.wants(2)):
        # Nothing reads the statistics: any value may stand in their places.
        return y, total, total, total
    return y, *moments(b, total, total.rank - 1, epsilon), total


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_norm(
    b: Builder,
    node: Call,
    x: Value,
    skip: Value,
    scale: Value,
    bias: Value | None = None,
) -> tuple[Value, ...]:
    """Root mean square norm of ``x + skip + bias``; the fourth output is the sum."""
    if node.wants(1) or node.wants(2):
        node.refuse("the statistics of the norm as outputs")
    total = _sum(b, x, skip, bias)
    y = b.make(RmsNormOp, total, scale, axis=-1, epsilon=node.real("epsilon", 1e-12))
    return y, total, total, total


def _sum(b: Builder, x: Value, skip: Value, bias: Value | None) -> Value:
    total = b.map("add", x, skip)
    return total if bias is None else b.map("add", total, bias)


@rule("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(
    b: Builder,
    node: Call,
    q: Value,
    k: Value | None = None,
    v: Value | None = None,
    bias: Value | None = None,
    padding: Value | None = None,
    scores: Value | None = None,
    past_k: Value | None = None,
    past_v: Value | None = None,
) -> tuple[Value, ...]:
    """Attention over ``[B, S, H * D]`` with a cache; outputs: it, present keys and values."""
    heads = node.integer("num_heads")
    if k is None or v is None or not q.rank == k.rank == v.rank == 3:
        node.refuse("packed queries, keys and values", fix="export them as three tensors")
    if heads < 1:
        node.invalid("attribute 'num_heads' is not positive", ("num_heads", heads))
    q, k, v = (split_heads(b, x, heads) for x in _biased(b, (q, k, v), bias))
    past = as_expr(0)
    if past_k is not None and past_v is not None:
        past = past_k.dims[2]
        k, v = b.concat([past_k, k], 2), b.concat([past_v, v], 2)
    scale = node.real("scale") or 1 / math.sqrt(fixed(node, q.dims[3], "a head"))
    causal = node.flag("unidirectional")
    y = b.make(
        AttentionOp,
        q,
        k,
        v,
        _mask(b, node, q, padding, scores),
        scale=scale,
        causal=causal,
        causal_offset=(past if causal else as_expr(0),),
    )
    return join_heads(b, y), k, v


def _biased(b: Builder, xs: tuple[Value, Value, Value], bias: Value | None) -> list[Value]:
    """Each plus its own part of the bias."""
    if bias is None:
        return list(xs)
    made: list[Value] = []
    start = as_expr(0)
    for x in xs:
        made.append(b.map("add", x, b.slice_axis(bias, 0, start, x.dims[2])))
        start = start + x.dims[2]
    return made


def _mask(
    b: Builder, node: Call, q: Value, padding: Value | None, scores: Value | None
) -> Value | None:
    """A padding mask ``[B, T]`` (0 hides a key) and a bias of the scores, as one."""
    if padding is None:
        return scores
    if padding.rank != 2:
        node.refuse("a padding mask that is not [batch, keys]", ("rank", padding.rank))
    batch, keys = padding.dims
    seen = b.reshape(b.convert(padding, boolean), [batch, 1, 1, keys])
    if scores is None:
        return seen
    return b.map("where", seen, scores, b.scalar(-math.inf, q.dtype))

"""Scaled dot-product attention and the rotary position embedding that goes before it."""

from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from tapeout.ir.dtypes import boolean
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.op import NNOp
from tapeout.ir.shapes import (
    check_broadcasts_to,
    check_dims,
    check_float,
    check_rank,
    check_same_dtype,
    misfit,
    never_equal,
)
from tapeout.ir.types import ExprsAttr, FlagAttr, FloatAttr, IntAttr, Spec, TensorType


@irdl_op_definition
class AttentionOp(NNOp):
    """``y = softmax(cap(q @ k^T * scale) + mask) @ v`` per head.

    Shapes: ``q [B, H, S, D]``, ``k [B, G, T, D]``, ``v [B, G, T, E]``, ``y [B, H, S, E]``; ``G``
    divides ``H`` and query head ``h`` reads key head ``h // (H / G)``. ``mask`` broadcasts to
    ``[B, H, S, T]``: float is added to the scores, bool keeps where true. ``softcap`` c > 0
    makes ``cap(s) = c * tanh(s / c)``; it comes before the mask. With ``causal`` query ``i``
    sees key ``j`` only if ``j <= i + causal_offset``; 0 is ONNX's and torch's upper-left
    alignment, a past of ``P`` cached keys has offset ``P``. A query that sees no key gives 0,
    as ONNX says, not NaN. Narrow floats: scores and softmax are f32.
    Errors: E0203, E0209, E0210.
    Source: Vaswani et al. 2017, arXiv:1706.03762; ONNX Attention-23 and -24.
    """

    name = "nn.attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    mask = opt_operand_def(TensorType)
    scale = prop_def(FloatAttr)
    causal = prop_def(FlagAttr, FlagAttr(False))
    causal_offset = prop_def(ExprsAttr, ExprsAttr((ZERO,)))
    softcap = prop_def(FloatAttr, FloatAttr(0.0))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        q: Spec,
        k: Spec,
        v: Spec,
        mask: Spec | None,
        *,
        scale: float,
        causal: bool,
        causal_offset: tuple[Expr, ...],
        softcap: float,
    ) -> Spec:
        """``[B, H, S, E]``."""
        check_float("attention", q)
        check_same_dtype("attention", q, k, v)
        for name, value in (("q", q), ("k", k), ("v", v)):
            check_rank("attention", name, value, 4)
        assert len(causal_offset) == 1, "causal_offset is one expression"
        batch, heads, queries, depth = q.dims
        _, groups, keys, _ = k.dims
        check_dims("attention", "k", k.dims, (batch, groups, keys, depth))
        check_dims("attention", "v", v.dims[:3], (batch, groups, keys))
        if never_equal(heads % groups, ZERO):
            raise misfit("attention", ("q", q.dims), ("k", k.dims), fix="key heads divide heads")
        if mask is not None:
            if mask.dtype is not boolean:
                check_same_dtype("attention mask", q, mask)
            check_broadcasts_to("attention", "mask", mask.dims, (batch, heads, queries, keys))
        return q.with_dims((batch, heads, queries, v.dims[3]))


@irdl_op_definition
class RotaryOp(NNOp):
    """Rotate pairs of the first ``rotary_dim`` channels (all when absent) by given angles.

    ``x [B, H, S, D]``; ``cos`` and ``sin`` broadcast to ``[B, H, S, R/2]``, ``R = rotary_dim``.
    Pair ``i`` is ``(x[i], x[i + R/2])``, or ``(x[2i], x[2i + 1])`` with ``interleaved``;
    ``(a, b)`` becomes ``(a*cos - b*sin, b*cos + a*sin)``. Narrow floats are computed in f32 and
    rounded once. Errors: E0203, E0209, E0210, E0211.
    Source: Su et al. 2021, arXiv:2104.09864; ONNX RotaryEmbedding-23.
    """

    name = "nn.rotary"
    x = operand_def(TensorType)
    cos = operand_def(TensorType)
    sin = operand_def(TensorType)
    interleaved = prop_def(FlagAttr, FlagAttr(False))
    rotary_dim = opt_prop_def(IntAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, cos: Spec, sin: Spec, *, interleaved: bool, rotary_dim: int | None) -> Spec:
        """As ``x``."""
        check_float("rotary", x)
        check_same_dtype("rotary", x, cos, sin)
        check_rank("rotary", "x", x, 4)
        depth = x.dims[3].constant
        turned = depth if rotary_dim is None else rotary_dim
        if depth is None or turned is None or turned % 2 or not 0 <= turned <= depth:
            raise CompileError(
                "E0211",
                "rotary: the rotated channels are an even number of the last axis",
                [("channels", x.dims[3]), ("rotated", turned)],
            )
        for name, value in (("cos", cos), ("sin", sin)):
            check_broadcasts_to("rotary", name, value.dims, (*x.dims[:3], ZERO + turned // 2))
        return x

"""Scaled dot-product attention and the rotary position embedding that goes before it."""

import math
from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from tapeout.ir.assumptions import may_divide
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ZERO, Expr, product
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.shapes import (
    check_broadcasts_to,
    check_dims,
    check_float,
    check_rank,
    check_same_dtype,
    misfit,
)
from tapeout.ir.types import ExprsAttr, FlagAttr, FloatAttr, IntAttr, Spec, TensorType, spec


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
        if not may_divide(heads, groups):
            raise misfit("attention", ("q", q.dims), ("k", k.dims), fix="key heads divide heads")
        if mask is not None:
            if mask.dtype is not boolean:
                check_same_dtype("attention mask", q, mask)
            check_broadcasts_to("attention", "mask", mask.dims, (batch, heads, queries, keys))
        return q.with_dims((batch, heads, queries, v.dims[3]))

    @staticmethod
    def reference(
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        *,
        scale: float,
        causal: bool,
        causal_offset: tuple[int, ...],
        softcap: float,
    ) -> Array:
        """The formula, with each key head repeated for its query heads."""
        share = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(wide(x), share, axis=1) for x in (k, v))
        scores = np.matmul(wide(q), keys.swapaxes(-1, -2)) * np.asarray(scale, wide(q).dtype)
        if softcap > 0:
            scores = np.tanh(scores / softcap) * softcap
        if mask is not None:
            hides = mask.dtype == np.bool_
            scores = np.where(mask, scores, -np.inf) if hides else scores + wide(mask)
        if causal:
            queries, keys = (np.arange(n, dtype=np.int64) for n in scores.shape[-2:])
            seen = keys <= queries[:, None] + causal_offset[0]
            scores = np.where(seen, scores, -np.inf)
        top: Array = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        grown = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = grown.sum(axis=-1, keepdims=True)
        return np.matmul(grown / np.where(total == 0, 1, total), values).astype(q.dtype)

    @staticmethod
    def cost(q: Spec, k: Spec, v: Spec, mask: Spec | None, **attrs: object) -> Expr:
        """The two products, and 5 for the softmax of each score; nothing saved by ``causal``."""
        batch, heads, queries, depth = q.dims
        scores = batch * heads * queries * k.dims[2]
        extra = (mask is not None) + 3 * (attrs["softcap"] != 0.0)
        return scores * (depth + v.dims[3]) * 2 + scores * (6 + extra)

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Two products with maps and a guarded softmax between them."""
        emit = Emit(builder)
        q, k, v = (emit.widened(x) for x in (self.q, self.k, self.v))
        batch, heads, queries, _ = spec(q).dims
        groups, keys = spec(k).dims[1:3]
        grouped = (batch, groups, heads // groups)
        scores = emit.matmul(
            emit.reshape(q, (*grouped, *spec(q).dims[2:])),
            emit.reshape(k, (batch, groups, 1, *spec(k).dims[2:])),
            transpose_b=True,
        )
        scores = emit.map("mul", scores, emit.like(self.scale.data, scores))
        scores = emit.reshape(scores, (batch, heads, queries, keys))
        scores = self._masked(emit, self._capped(emit, scores))
        weights = emit.reshape(_guarded_softmax(emit, scores), (*grouped, queries, keys))
        y = emit.matmul(weights, emit.reshape(v, (batch, groups, 1, *spec(v).dims[2:])))
        y = emit.reshape(y, (batch, heads, queries, spec(v).dims[3]))
        return [emit.convert(y, spec(self.q).dtype)]

    def _capped(self, emit: Emit, scores: SSAValue) -> SSAValue:
        if not self.softcap.data > 0:
            return scores
        cap = emit.like(self.softcap.data, scores)
        return emit.map("mul", emit.map("tanh", emit.map("div", scores, cap)), cap)

    def _masked(self, emit: Emit, scores: SSAValue) -> SSAValue:
        hidden = emit.like(-math.inf, scores)
        if self.mask is not None and spec(self.mask).dtype is boolean:
            scores = emit.map("where", self.mask, scores, hidden)
        elif self.mask is not None:
            scores = emit.map("add", scores, emit.convert(self.mask, spec(scores).dtype))
        if not self.causal.data:
            return scores
        queries, keys = spec(scores).dims[2:]
        limit = emit.map(
            "add", emit.iota((queries, 1), 0), emit.size(self.causal_offset.data[0], i64)
        )
        return emit.map("where", emit.map("le", emit.iota((1, keys), 1), limit), scores, hidden)


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

    @staticmethod
    def reference(
        x: Array, cos: Array, sin: Array, *, interleaved: bool, rotary_dim: int | None
    ) -> Array:
        """Rotate the pairs; the channels after them pass."""
        turned = x.shape[-1] if rotary_dim is None else rotary_dim
        y = wide(x).copy()
        half = turned // 2
        first = slice(0, turned, 2) if interleaved else slice(0, half)
        second = slice(1, turned, 2) if interleaved else slice(half, turned)
        a, b = y[..., first].copy(), y[..., second].copy()
        y[..., first] = a * wide(cos) - b * wide(sin)
        y[..., second] = b * wide(cos) + a * wide(sin)
        return y.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, cos: Spec, sin: Spec, *, rotary_dim: int | None, **_: object) -> Expr:
        """6 per pair."""
        turned = x.dims[3] if rotary_dim is None else ZERO + rotary_dim
        return product(x.dims[:3]) * turned * 3

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Slices, maps and a concatenation."""
        emit = Emit(builder)
        depth = int(spec(self.x).dims[3])
        turned = depth if self.rotary_dim is None else self.rotary_dim.data
        if turned == 0:
            return [self.x]
        x, cos, sin = (emit.widened(v) for v in (self.x, self.cos, self.sin))
        lead = spec(x).dims[:3]
        pairs = emit.part(x, 3, 0, turned)
        # Both layouts become a pair on an axis of its own, after or before the channels.
        axis = 4 if self.interleaved.data else 3
        split = (turned // 2, 2) if self.interleaved.data else (2, turned // 2)
        pairs = emit.reshape(pairs, (*lead, *split))
        a, b = (emit.reshape(emit.part(pairs, axis, i, 1), (*lead, turned // 2)) for i in range(2))
        left = emit.map("sub", emit.map("mul", a, cos), emit.map("mul", b, sin))
        right = emit.map("add", emit.map("mul", b, cos), emit.map("mul", a, sin))
        single = (*lead, turned // 2, 1) if self.interleaved.data else (*lead, 1, turned // 2)
        sides = [emit.reshape(side, single) for side in (left, right)]
        y = emit.reshape(emit.op(ConcatOp, sides, axis=axis), (*lead, turned))
        if turned < depth:
            y = emit.op(ConcatOp, [y, emit.part(x, 3, turned, depth - turned)], axis=3)
        return [emit.convert(y, spec(self.x).dtype)]


def _guarded_softmax(emit: Emit, scores: SSAValue) -> SSAValue:
    """Softmax along the last axis that gives 0 for a line of ``-inf``."""
    top, zero, one = emit.reduce("max", scores, (3,)), emit.like(0, scores), emit.like(1, scores)
    nothing = emit.map("eq", top, emit.like(-math.inf, scores))
    grown = emit.map("exp", emit.map("sub", scores, emit.map("where", nothing, zero, top)))
    total = emit.reduce("sum", grown, (3,))
    return emit.map("div", grown, emit.map("where", nothing, one, total))

"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.types import spec


@rule("aten.scaled_dot_product_attention")
def attention(
    b: Builder,
    call: Call,
    q: SSAValue,
    k: SSAValue,
    v: SSAValue,
    mask: SSAValue | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> SSAValue:
    """``softmax(q @ k^T * scale + mask) @ v`` per head."""
    if dropout:
        call.refuse("dropout has no support", fix="call .eval() before exporting")
    depth = spec(q).dims[-1].constant
    if depth is None:
        call.refuse("the size of a head must be known", ("queries", spec(q).dims))
    lead = call.output.dims[:-2]
    q, k, v = (_with_heads(b, _repeated(b, x, lead, enable_gqa)) for x in (q, k, v))
    if mask is not None:
        if spec(mask).rank > 4:
            mask = b.expand(mask, (*call.output.dims[:-3], *spec(mask).dims[-3:]))
        mask = _with_heads(b, mask)
        mask = mask if spec(mask).dtype is boolean else b.convert(mask, spec(q).dtype)
    y = b.op(
        AttentionOp,
        q,
        k,
        v,
        mask,
        scale=1 / math.sqrt(depth) if scale is None else float(scale),
        causal=causal,
        causal_offset=(ZERO,),
    )
    return b.reshape(y, call.output.dims)


def _repeated(b: Builder, x: SSAValue, lead: Sequence[Expr], grouped: bool) -> SSAValue:
    """``x`` with the leading axes of the result; the number of heads is its own where grouped."""
    own = spec(x).dims
    dims = (*lead[:-1], own[-3], *own[-2:]) if grouped else (*lead, *own[-2:])
    return x if own == dims else b.expand(x, dims)


def _with_heads(b: Builder, x: SSAValue) -> SSAValue:
    """Leading axes as one batch and heads: ``[B, H, S, D]``."""
    dims = spec(x).dims
    if len(dims) < 4:
        return b.reshape(x, (*[1] * (4 - len(dims)), *dims))
    if len(dims) == 4:
        return x
    batch = spec(x).with_dims(dims[:-3]).size
    return b.reshape(x, (batch, *dims[-3:]))

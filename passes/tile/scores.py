"""Scores of an attention on their way from product to softmax: scaled, capped, masked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.paged import PagedAttentionOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import tile_of
from tapeout.ir.types import spec
from tapeout.passes.tile.places import Pairs, literal
from tapeout.passes.tile.pull import Pull


def scaled(b: TileBuilder, root: AttentionOp | PagedAttentionOp, s: SSAValue) -> SSAValue:
    """Products of queries and keys as scores, capped where the operator says so."""
    s = b.map("mul", s, literal(b, root.scale.data, s))
    cap = root.softcap.data
    if cap > 0:
        s = b.map("tanh", b.map("div", s, literal(b, cap, s)))
        s = b.map("mul", s, literal(b, cap, s))
    return s


def masked(
    pull: Pull,
    root: AttentionOp,
    s: SSAValue,
    at: Sequence[Expr],
    key: Expr,
    kept: Pairs,
    beyond: Pairs,
) -> SSAValue:
    """Add or apply the mask, the causal limit and the end of the keys.

    ``s [queries, keys]`` lies at batch, head and query ``at``, and at ``key``. ``kept`` cuts the
    queries, ``beyond`` the keys.
    """
    b, (rows, columns) = pull.builder, tile_of(s).shape
    hidden = literal(b, -math.inf, s)
    if root.mask is not None:
        dims = spec(root.mask).dims
        tail = (*at, key)[4 - len(dims) :]
        index = [ZERO if d == 1 else i for i, d in zip(tail, dims, strict=True)]
        mask = pull.at(root.mask, index, (rows, columns), (*kept, *beyond))
        if spec(root.mask).dtype is boolean:
            s = b.map("where", mask, s, hidden)
        else:
            s = b.map("add", s, b.convert(mask, tile_of(s).dtype))
    if root.causal.data:
        limit = at[2] + root.causal_offset.data[0]
        seen = b.map("le", b.index(key, (1, columns)), b.index(limit, (rows, 1)))
        s = b.map("where", seen, s, hidden)
    for e, n in beyond:
        seen = b.map("lt", b.index(e, (1, columns)), b.index(n, (1, 1)))
        s = b.map("where", seen, s, hidden)
    return s

"""Attention on keys and values that a cache keeps in pages, and writing to such a cache.

A *pool* has ``P`` pages of ``N`` slots each; a sequence's ``l``-th ``N`` slots are the page
``table[b, l]``. Values lie as ``[P, G, N, E]``, keys turned, ``[P, G, D, N]``, so that one number
of a query meets as many keys as a vector has lanes. Tokens of several sequences stand in one batch,
each with the number of its sequence and what it may see.

Source: Kwon et al. 2023, arXiv:2309.06180, for pages; Miao et al. 2023, arXiv:2305.09781, for
trees of tokens.
"""

import numpy as np
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
)

from tapeout.ir.assumptions import may_divide
from tapeout.ir.dtypes import i32, i64
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import (
    check_dims,
    check_float,
    check_index,
    check_rank,
    check_same_dtype,
    misfit,
)
from tapeout.ir.types import FlagAttr, FloatAttr, Spec, TensorType

TREE = 64
"""Slots behind a token's own that its mask can name: bits of an i64."""


@irdl_op_definition
class WriteSlotsOp(NNOp):
    """``pool`` with ``x [T, G, D]`` at ``slots [T]``, a slot being ``page * N + line``.

    ``y[slot // N, g, slot % N] = x[t, g]``, or with ``turned`` ``y[slot // N, g, :, slot % N]``.
    Slots are distinct; one outside of the pool counts as the nearest inside.
    Errors: E0203, E0209, E0210.
    """

    name = "nn.write_slots"
    pool = operand_def(TensorType)
    slots = operand_def(TensorType)
    x = operand_def(TensorType)
    turned = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(pool: Spec, slots: Spec, x: Spec, *, turned: bool) -> Spec:
        """As ``pool``."""
        check_same_dtype("write_slots", pool, x)
        check_index("write_slots", slots)
        for name, value, rank in (("pool", pool, 4), ("slots", slots, 1), ("x", x, 3)):
            check_rank("write_slots", name, value, rank)
        depth = pool.dims[2] if turned else pool.dims[3]
        check_dims("write_slots", "x", x.dims, (slots.dims[0], pool.dims[1], depth))
        return pool

    @staticmethod
    def reference(pool: Array, slots: Array, x: Array, *, turned: bool) -> Array:
        """One token after the other."""
        y = pool.copy()
        lines = pool.shape[3] if turned else pool.shape[2]
        places = np.clip(slots, 0, pool.shape[0] * lines - 1)
        for slot, row in zip(places.tolist(), x, strict=True):
            if turned:
                y[slot // lines, :, :, slot % lines] = row
            else:
                y[slot // lines, :, slot % lines] = row
        return y


@irdl_op_definition
class PagedAttentionOp(NNOp):
    """``y[t] = softmax(cap(q[t] @ k^T * scale)) @ v`` over what token ``t`` sees.

    Shapes: ``q [T, H, D]``, ``keys [P, G, D, N]``, ``values [P, G, N, E]``, ``y [T, H, E]``; query
    head ``h`` reads key head ``h // (H / G)``. ``table [B, L]`` (i32): pages of each sequence.
    Token ``t`` is of sequence ``sequence[t]`` and sees its slots from ``first[t]`` up to, not
    including, ``end[t]`` (all i32); of the slots from there on, with ``tree [T]`` (i64), those
    ``end[t] + i`` whose bit ``i`` is set. ``softcap`` c > 0 makes ``cap(s) = c * tanh(s / c)``.
    A token that sees nothing gives 0. Slots beyond the table are not seen; numbers of pages and
    sequences outside of their range count as the nearest inside. Narrow floats: f32 inside.
    Errors: E0203, E0209, E0210.
    """

    name = "nn.paged_attention"
    q = operand_def(TensorType)
    keys = operand_def(TensorType)
    values = operand_def(TensorType)
    table = operand_def(TensorType)
    sequence = operand_def(TensorType)
    first = operand_def(TensorType)
    end = operand_def(TensorType)
    tree = opt_operand_def(TensorType)
    scale = prop_def(FloatAttr)
    softcap = prop_def(FloatAttr, FloatAttr(0.0))
    y = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(
        q: Spec,
        keys: Spec,
        values: Spec,
        table: Spec,
        sequence: Spec,
        first: Spec,
        end: Spec,
        tree: Spec | None,
        *,
        scale: float,
        softcap: float,
    ) -> Spec:
        """``[T, H, E]``."""
        check_float("paged_attention", q, keys)
        check_same_dtype("paged_attention", keys, values)
        for name, value, rank in (("q", q, 3), ("keys", keys, 4), ("values", values, 4)):
            check_rank("paged_attention", name, value, rank)
        check_rank("paged_attention", "table", table, 2)
        tokens, heads, depth = q.dims
        pages, groups, _, lines = keys.dims
        check_dims("paged_attention", "keys", keys.dims, (pages, groups, depth, lines))
        check_dims("paged_attention", "values", values.dims[:3], (pages, groups, lines))
        if not may_divide(heads, groups):
            raise misfit("paged_attention", ("q", q.dims), ("keys", keys.dims))
        for name, value in (("sequence", sequence), ("first", first), ("end", end)):
            check_dims("paged_attention", name, value.dims, (tokens,))
        if tree is not None:
            check_dims("paged_attention", "tree", tree.dims, (tokens,))
            assert tree.dtype is i64, "a tree's mask is 64 bits"
        assert all(v.dtype is i32 for v in (table, sequence, first, end)), "places are i32"
        return q.with_dims((tokens, heads, values.dims[3]))

    @staticmethod
    def reference(
        q: Array,
        keys: Array,
        values: Array,
        table: Array,
        sequence: Array,
        first: Array,
        end: Array,
        tree: Array | None,
        *,
        scale: float,
        softcap: float,
    ) -> Array:
        """Token by token: gather the pages, then attention on what is seen."""
        pages, groups, _, lines = keys.shape
        share = q.shape[1] // groups
        y = np.zeros((*q.shape[:2], values.shape[3]), q.dtype)
        slots: Array = np.arange(int(table.shape[1] * lines))
        for t in range(q.shape[0]):
            row: Array = table[min(max(int(sequence[t]), 0), table.shape[0] - 1)]
            row = row.clip(0, pages - 1)
            seen: Array = (slots >= first[t]) & (slots < end[t])
            if tree is not None:
                behind = slots - end[t]
                bit = np.int64(1) << np.clip(behind, 0, TREE - 1).astype(np.int64)
                seen |= (behind >= 0) & (behind < TREE) & ((tree[t] & bit) != 0)
            if not seen.any():
                continue
            k = wide(keys[row]).transpose(1, 0, 3, 2).reshape(groups, len(slots), -1)[:, seen]
            v = wide(values[row]).transpose(1, 0, 2, 3).reshape(groups, len(slots), -1)[:, seen]
            heads = wide(q[t]).reshape(groups, share, -1)
            scores = np.matmul(heads, k.swapaxes(1, 2)) * np.asarray(scale, wide(q).dtype)
            scores = np.tanh(scores / softcap) * softcap if softcap > 0 else scores
            grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = np.matmul(grown / grown.sum(axis=-1, keepdims=True), v)
            y[t] = mixed.reshape(q.shape[1], -1).astype(q.dtype)
        return y

    @staticmethod
    def cost(
        q: Spec, keys: Spec, values: Spec, table: Spec, *rest: Spec | None, **attrs: object
    ) -> Expr:
        """The two products and the softmax over all slots of a sequence, which no token exceeds."""
        tokens, heads, depth = q.dims
        scores = tokens * heads * table.dims[1] * keys.dims[3]
        return scores * (depth + values.dims[3]) * 2 + scores * 6

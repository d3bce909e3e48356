"""Products with weights whose scales belong to groups along ``k``, on packed codes.

    dequantize(a) @ dequantize(w)  =  grouped_matmul(a, codes of w)     groups of a, of w, or both
    x @ dequantize(w in groups)    =  dequantize(rounded(x)) @ dequantize(w)     about

The second is no identity: the activations of such a product are rounded to 8 bits, with a scale
for each group of each row. That costs 0.4 % of noise where 4-bit weights have 10 %, and is what
integer units need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i8, i32
from tapeout.ir.expr import ZERO, as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp, ExpertMatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.quantized import DequantizeOp, RoundRowsOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.views import PadOp, ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by
from tapeout.passes.quantize.activations import rounded
from tapeout.passes.quantize.packed import Packed, packed
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

Array = np.ndarray[Any, Any]
Product: TypeAlias = MatmulOp | ExpertMatmulOp

QUAD = 4
"""Groups are made of as many neighbours: what integer units sum at once."""
LONGEST = 32_768
"""Neighbours whose products of bytes surely sum within 31 bits."""


@dataclass(frozen=True)
class GroupedProducts(Pass):
    """Multiply packed codes of few bits, and apply the scales of a group to its sum.

    Saves bytes: a weight of 4 bits in groups of 32 takes 4.5 bits instead of 32, which is the
    time of a product with few rows.
    """

    name = "grouped-products"

    def apply(self, module: Module) -> None:
        """Rewrite every product whose weights have groups, and those of rounded activations."""
        drive(module, [RoundedActivations(), GroupedMatmul()])


class RoundedActivations(Pattern[Product]):
    """The second line above, for weights in groups."""

    root = Product

    def _rewrite(self, op: Product, edit: Edit) -> Replacement:
        right = made_by(op.b, DequantizeOp)
        if right is None or not right.block.data or isinstance(op.a.owner, DequantizeOp):
            return None
        k = int(spec(op.b).dims[_summed(op)])
        if right.block.data % QUAD and right.block.data < k:
            return None  # no kernel would gain by it
        if spec(op.a).dtype is not f32 or _weights(op, edit) is None:
            return None
        group = min(right.block.data, LONGEST)
        near = rounded(op.a, group, edit)
        return edit.add(type(op), near, *op.operands[1:], transpose_b=op.transpose_b.data)


class GroupedMatmul(Pattern[Product]):
    """The first line above, for signed codes of activations with a scale per row, or per group."""

    root = Product

    def _rewrite(self, op: Product, edit: Edit) -> Replacement:
        left, weights = made_by(op.a, DequantizeOp), _weights(op, edit)
        if left is None or weights is None or not _is_signed_by_row(left):
            return None
        k = int(spec(op.b).dims[_summed(op)])
        of_a, of_w = left.block.data, weights.group
        if not of_a and not of_w and weights.bits == 8:
            return None  # a plain product of bytes
        if of_a and of_w and of_a != of_w and max(of_a, of_w) < k:
            return None
        group = min(of_a or k, of_w or k, -(-k // QUAD) * QUAD)
        if group >= k:
            group = -(-k // QUAD) * QUAD
        if group % QUAD or group > LONGEST:
            return None
        return _product(op, left, weights, group, edit)


def _is_signed_by_row(left: DequantizeOp) -> bool:
    """Whether activations are signed bytes around 0 with scales that belong to rows."""
    x, scale = spec(left.x), spec(left.scale)
    along = left.axis.data == x.rank - 1 if left.block.data else scale.dims[-1:] == (1,)
    rows = scale.dims[:-1] == x.dims[:-1]
    return x.dtype is i8 and left.zero is None and left.to.data is f32 and along and rows


def _summed(op: Product) -> int:
    """The axis of the right side that a product sums over."""
    return spec(op.b).rank - (1 if op.transpose_b.data else 2)


def _weights(op: Product, edit: Edit) -> Packed | None:
    """The packed codes of a product's right side, where it is fixed matrices of codes.

    Those of experts are one matrix, one below the other.
    """
    right, dims = made_by(op.b, DequantizeOp), spec(op.b).dims
    if right is None or right.to.data is not f32:
        return None
    if isinstance(op, MatmulOp) and len(dims) != 2:
        return None
    arrays = [None if v is None else edit.array(v) for v in (right.x, right.scale, right.zero)]
    codes, scale, zero = arrays
    if codes is None or scale is None or (zero is None) != (right.zero is None):
        return None
    if right.block.data and right.axis.data != _summed(op):
        return None
    if not op.transpose_b.data:
        codes, scale, zero = (None if v is None else _turned(v, len(dims)) for v in arrays)
    if isinstance(op, ExpertMatmulOp):
        rows = None if codes is None else codes.shape[:2]
        codes, scale, zero = (None if v is None else _below(v, rows) for v in (codes, scale, zero))
    return None if codes is None or scale is None else packed(codes, scale, zero, right.block.data)


def _turned(values: Array, rank: int) -> Array:
    """The transpose of what broadcasts with matrices ``[*, K, N]``."""
    return values.reshape((1,) * (rank - values.ndim) + values.shape).swapaxes(-1, -2)


def _below(values: Array, rows: tuple[int, ...] | None) -> Array:
    """What broadcasts with matrices ``[E, N, *]``, one below the other."""
    assert rows is not None, "there are codes"
    of = values.reshape((1,) * (3 - values.ndim) + values.shape)
    return np.broadcast_to(of, (*rows, of.shape[2])).reshape(-1, of.shape[2])


def _label(op: Product, edit: Edit) -> str:
    """The name that the model gives to the codes."""
    right = made_by(op.b, DequantizeOp)
    weight = None if right is None else made_by(right.x, WeightOp)
    return "" if weight is None else edit.module.weights.label(weight.symbol.data)


def _product(op: Product, left: DequantizeOp, w: Packed, group: int, edit: Edit) -> SSAValue:
    k = w.codes.shape[1]
    count = -(-k // group)
    fill = count * group - k
    codes, rows = left.x, spec(left.x).dims[:-1]
    if fill:
        low, high = (ZERO,) * (len(rows) + 1), (*(ZERO for _ in rows), as_expr(fill))
        codes = edit.add(PadOp, codes, None, low=low, high=high, mode="constant")
    sums = _sums(codes, count, group, edit)
    filled = np.pad(w.codes, ((0, 0), (0, fill)))
    experts = [int(d) for d in spec(op.b).dims[:-2]]

    def weight(array: Array, label: str = "") -> SSAValue:
        return edit.weight(array.reshape(*experts, -1, array.shape[1]), label)

    zero = None if w.zero is None else weight(w.zero)
    right = (weight(filled, _label(op, edit)), weight(w.scale), zero)
    attrs = {"group": group, "bits": w.bits, "step": w.step, "point": w.point}
    if isinstance(op, ExpertMatmulOp):
        return edit.add(ExpertGroupedMatmulOp, codes, left.scale, sums, *right, op.experts, **attrs)
    return edit.add(GroupedMatmulOp, codes, left.scale, sums, *right, **attrs)


def _sums(codes: SSAValue, count: int, group: int, edit: Edit) -> SSAValue:
    """The sums of groups of ``codes [*, K]``, which who rounded them may know."""
    shape = (*spec(codes).dims[:-1], as_expr(count), as_expr(group))
    view = made_by(codes, ReshapeOp)
    made = None if view is None else made_by(view.x, RoundRowsOp)
    if made is not None and spec(made.codes).dims == shape:
        return edit.add(ReshapeOp, made.sums, shape=shape[:-1])
    wide = edit.add(ConvertOp, edit.add(ReshapeOp, codes, shape=shape), to=i32)
    return edit.add(ReduceOp, wide, fn="sum", axes=(len(shape) - 1,), keepdims=False)

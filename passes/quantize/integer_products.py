"""Products of quantised tensors as products of their codes, which are exact integers.

For activations ``sa (x - za)`` and constant weights ``sw (w + o)`` of signed bytes ``w``::

    sum_k sa (x - za) sw (w + o) = sa sw (sum_k x w  -  za sum_k w  +  o (sum_k x - K za))

The first sum is a product of bytes; the others are constants, or small. ``o`` is 0 wherever the
weights less their zero points fit a signed byte. Source: Krishnamoorthi 2018, arXiv:1806.08342.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i32
from tapeout.ir.expr import ZERO, as_expr
from tapeout.ir.module import Module
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by
from tapeout.passes.quantize.codes import (
    Activation,
    Term,
    Weights,
    activation,
    is_code,
    times,
    unsigned,
    value_of,
    weights,
)
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

Array = np.ndarray[Any, Any]
ViewOp = ReshapeOp | TransposeOp | SliceOp | ExpandOp


@dataclass(frozen=True)
class IntegerProducts(Pass):
    """Multiply codes instead of the numbers that they stand for.

    Saves three quarters of the bytes of weights and activations, and runs on instructions that
    sum four products of bytes. Integers are exact; scales are applied to the sum, in f32.
    """

    name = "integer-products"

    def apply(self, module: Module) -> None:
        """Rewrite every product and convolution of quantised activations and constant codes."""
        drive(module, [ViewOfCodes(), MaxOfCodes(), IntegerMatmul(), IntegerConv()])


class ViewOfCodes(Pattern[ViewOp]):
    """``view(dequantize(x)) = dequantize(view(x))`` where one scale stands for the tensor."""

    root = ViewOp

    def _rewrite(self, op: ViewOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, DequantizeOp)
        if inner is None or edit.array(inner.x) is not None:
            return None
        parts = [p for p in (inner.scale, inner.zero) if p is not None]
        if any(spec(p).size != 1 for p in parts):
            return None
        alone = [edit.add(ReshapeOp, p, shape=()) if spec(p).rank else p for p in parts]
        codes = edit.add(type(op), inner.x, **op.attrs())
        zero = alone[1] if inner.zero is not None else None
        return edit.add(DequantizeOp, codes, alone[0], zero, to=inner.to.data)


class MaxOfCodes(Pattern[PoolOp]):
    """``max_pool(dequantize(x)) = dequantize(max_pool(x))`` where one scale above 0 stands for all.

    A window with nothing inside has no largest number: then it holds the lowest code.
    """

    root = PoolOp

    def _rewrite(self, op: PoolOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, DequantizeOp)
        if inner is None or op.fn.data != "max" or not is_byte(spec(inner.x).dtype):
            return None
        scale, zero = edit.array(inner.scale), inner.zero
        if scale is None or scale.size != 1 or not (scale > 0).all():
            return None
        if zero is not None and spec(zero).size != 1:
            return None
        codes = edit.add(PoolOp, inner.x, **op.attrs())
        return edit.add(DequantizeOp, codes, inner.scale, zero, to=inner.to.data)


class IntegerMatmul(Pattern[MatmulOp]):
    """The identity above for a matrix of constant codes."""

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        if spec(op.b).rank != 2:
            return None
        transposed = bool(op.transpose_b.data)
        a = activation(op.a, 1, edit)
        b = weights(op.b, 0 if transposed else 1, edit)
        if a is None or b is None or (a.scale is None) != (b.scale is None):
            return None
        a = unsigned(a, edit)
        total = edit.add(MatmulOp, a.codes, edit.derived(b.codes, op.b), transpose_b=transposed)
        sums = b.codes.sum(axis=1 if transposed else 0, dtype=np.int64)
        total = _less(total, times(a.zero, sums, edit), edit)
        if b.offset:
            wide = edit.add(ConvertOp, a.codes, to=i32)
            axes, k = (spec(wide).rank - 1,), b.codes.size // max(sums.size, 1)
            rows = edit.add(ReduceOp, wide, fn="sum", axes=axes, keepdims=True)
            total = edit.map("add", total, _offset_terms(rows, a.zero, b, k, edit))
        return _scaled(total, a, b.scale, edit)


class IntegerConv(Pattern[ConvOp]):
    """The identity above for filters of constant codes; padding is made of zero points."""

    root = ConvOp

    def _rewrite(self, op: ConvOp, edit: Edit) -> Replacement:
        a = activation(op.x, spec(op.x).rank, edit)
        b = weights(op.w, 0, edit)
        if a is None or b is None or (a.scale is None) != (b.scale is None):
            return None
        if b.offset and op.groups.data > 1:
            return None
        pads: Sequence[int] = op.pads.data
        if any(pads) and not is_code(a.zero, spec(a.codes).dtype):
            return None
        a = unsigned(a, edit)
        codes = _padded(op, a, edit) if any(pads) else a.codes
        attrs = {**op.attrs(), "pads": (0,) * len(pads)}
        total = edit.add(ConvOp, codes, edit.derived(b.codes, op.w), None, **attrs)
        sums = b.codes.reshape(b.codes.shape[0], -1).sum(axis=1, dtype=np.int64)
        one = a.zero if isinstance(a.zero, SSAValue) else a.zero.reshape(())
        total = _less(total, times(one, _beside_channels(op, sums), edit), edit)
        if b.offset:
            window = np.ones((1, *b.codes.shape[1:]), np.int8)
            rows = edit.add(ConvOp, codes, edit.constant(window), None, **attrs)
            total = edit.map("add", total, _offset_terms(rows, one, b, window.size, edit))
        scale = None if b.scale is None else _beside_channels(op, b.scale)
        total = _scaled(total, a, scale, edit)
        return total if op.bias is None else edit.map("add", total, _bias(op, op.bias, edit))


def _less(total: SSAValue, term: Term, edit: Edit) -> SSAValue:
    if isinstance(term, SSAValue) or term.any():
        return edit.map("sub", total, value_of(term, edit))
    return total


def _offset_terms(rows: SSAValue, zero: Term, b: Weights, k: int, edit: Edit) -> SSAValue:
    """``o (sum_k x - K za)``, from the sums of ``x``: a number for each row or window."""
    rows = _less(rows, times(zero, np.array(k), edit), edit)
    return edit.map("mul", rows, value_of(np.array(b.offset), edit))


def _scaled(total: SSAValue, a: Activation, scale: Array | None, edit: Edit) -> SSAValue:
    """The sum of integers as the number that it stands for."""
    if a.scale is None or scale is None:
        return total
    total = edit.add(ConvertOp, total, to=f32)
    if isinstance(a.scale, SSAValue):
        total = edit.map("mul", total, a.scale)
        return edit.map("mul", total, edit.constant(scale))
    return edit.map("mul", total, edit.constant((a.scale * scale).astype(np.float32)))


def _padded(op: ConvOp, a: Activation, edit: Edit) -> SSAValue:
    """The codes of a convolution's input with its padding, which stands for 0."""
    rank, pads = spec(op.x).rank, op.pads.data
    first = 1 if op.channels_last.data else 2
    low, high = [ZERO] * rank, [ZERO] * rank
    for i in range(rank - 2):
        low[first + i], high[first + i] = as_expr(pads[i]), as_expr(pads[rank - 2 + i])
    point = _padding(a, edit)
    return edit.add(PadOp, a.codes, point, low=tuple(low), high=tuple(high), mode="constant")


def _padding(a: Activation, edit: Edit) -> SSAValue | None:
    """The zero point as one code; None for 0, which whoever makes the codes may write."""
    dtype = spec(a.codes).dtype
    if isinstance(a.zero, SSAValue):
        return edit.add(ReshapeOp, edit.add(ConvertOp, a.zero, to=dtype), shape=())
    return edit.constant(a.zero.reshape(()).astype(dtype.numpy)) if a.zero.any() else None


def _bias(op: ConvOp, bias: SSAValue, edit: Edit) -> SSAValue:
    """The bias so that it broadcasts with the result; a quantised one is folded later."""
    ones = () if op.channels_last.data else (1,) * (spec(op.x).rank - 2)
    return edit.add(ReshapeOp, bias, shape=(*spec(bias).dims, *map(as_expr, ones)))


def _beside_channels(op: ConvOp, values: Array) -> Array:
    """One number per output channel so that it broadcasts with the result; or one for all."""
    if values.size == 1 or op.channels_last.data:
        return values.reshape(-1) if values.size > 1 else values.reshape(())
    return values.reshape(math.prod(values.shape), *[1] * (spec(op.x).rank - 2))

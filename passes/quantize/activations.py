"""Activations rounded to bytes: with fixed scales, or with scales found while the program runs."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i32, u8
from tapeout.ir.expr import ZERO, as_expr, ceildiv
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.quantized import DequantizeOp, RoundRowsOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import PadOp, ReshapeOp, SliceOp
from tapeout.ir.types import spec
from tapeout.passes.calibrate.codes import Codes, Scaling
from tapeout.passes.rewrite import Edit

BYTES = Codes(8, signed=False, symmetric=False)
SMALLEST = float(np.finfo(np.float32).tiny)


def static(x: SSAValue, known: Scaling, edit: Edit) -> SSAValue:
    """``x`` rounded to bytes of a fixed scale and zero point.

    The numbers are weights and no literals, so that equal layers stay one kernel.
    """
    scale, zero = known.scale.reshape(()), known.zero_point.reshape(()).astype(np.uint8)
    codes = _codes(x, edit.weight(1 / scale), edit.weight(zero.astype(np.float32)), edit)
    return edit.add(DequantizeOp, codes, edit.constant(scale), edit.constant(zero), to=f32)


def dynamic(x: SSAValue, edit: Edit) -> SSAValue:
    """``x`` rounded to bytes with a scale and a zero point for each row, from its extremes.

    The range is widened to hold 0, which is exact. As ONNX's DynamicQuantizeLinear, but by row.
    """

    def extreme(fn: str) -> SSAValue:
        axes = (spec(x).rank - 1,)
        return edit.map(fn, edit.add(ReduceOp, x, fn=fn, axes=axes, keepdims=True), _f32(0, edit))

    low, high = extreme("min"), extreme("max")
    reach = edit.map("mul", edit.map("sub", high, low), _f32(1 / BYTES.high, edit))
    scale = edit.map("max", reach, _f32(SMALLEST, edit))  # a row of zeros has a scale too
    inverse = edit.map("div", _f32(1, edit), scale)
    zero = edit.map("round", edit.map("neg", edit.map("mul", low, inverse)))
    codes = _codes(x, inverse, zero, edit)
    return edit.add(DequantizeOp, codes, scale, edit.add(ConvertOp, zero, to=i32), to=f32)


def rounded(x: SSAValue, group: int, edit: Edit) -> SSAValue:
    """``x`` rounded to signed bytes around 0, with a scale for each ``group`` along its last axis.

    A group of 0 is a whole row; the last group may have fewer elements.
    """
    *rows, k = spec(x).dims
    size = as_expr(group or k)
    count = ceildiv(k, size)
    whole, axis = x, len(rows)
    if k % size != 0:
        high = (*(ZERO for _ in rows), count * size - k)
        whole = edit.add(PadOp, x, None, low=(ZERO,) * (axis + 1), high=high, mode="constant")
    parts = edit.add(ReshapeOp, whole, shape=(*rows, count, size))
    codes, scale, _ = edit.put(RoundRowsOp.make(parts)).results
    codes = edit.add(ReshapeOp, codes, shape=(*rows, count * size))
    if whole is not x:
        start, steps = (ZERO,) * (axis + 1), (1,) * (axis + 1)
        codes = edit.add(SliceOp, codes, starts=start, sizes=(*rows, k), steps=steps)
    scale = edit.add(ReshapeOp, scale, shape=(*rows, count))
    blocks = {"axis": axis, "block": group} if group else {}
    return edit.add(DequantizeOp, codes, scale, None, to=f32, **blocks)


def _f32(value: float, edit: Edit) -> SSAValue:
    return edit.constant(np.array(value, np.float32))


def _codes(x: SSAValue, inverse: SSAValue, zero: SSAValue, edit: Edit) -> SSAValue:
    """``saturate(round(x / scale) + zero)``."""
    rounded_ = edit.map("round", edit.map("mul", x, inverse))
    return edit.add(ConvertOp, edit.map("add", rounded_, zero), to=u8, saturate=True)

"""What a quantised product is made of: codes, zero points and scales behind its operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType, f32, i8, i32, u8
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.pointwise import BitcastOp, ConvertOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.types import spec
from tapeout.passes.match import behind_repeats, made_by, operands_of
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]
Term = Array | SSAValue
"""A number or a tensor of numbers: known when compiling, or a value of the graph."""

NO_ZERO = np.zeros((), np.int64)


@dataclass(frozen=True)
class Activation:
    """``scale * (codes - zero)``, with ``codes`` of i8 or u8; no scale for plain integers.

    Neither ``zero`` (an array of i64 or a value of i32) nor ``scale`` (f32) varies along the axes
    that a product sums.
    """

    codes: SSAValue
    zero: Term
    scale: Term | None


@dataclass(frozen=True)
class Weights:
    """``scale * (codes + offset)``, with constant ``codes`` of i8; no scale for plain integers.

    ``scale`` has one element, or one per output.
    """

    codes: Array
    offset: int
    scale: Array | None


def activation(value: SSAValue, summed: int, edit: Edit) -> Activation | None:
    """The codes behind an operand whose last ``summed`` axes a product sums over, if any."""
    op = value.owner
    if isinstance(op, DequantizeOp):
        codes, zero, scale = op.x, op.zero, op.scale
        if op.block.data or op.to.data is not f32:
            return None
    elif spec(value).dtype is i32:
        wide, zero = operands_of(value, "sub") or (value, None)
        made, scale = made_by(wide, ConvertOp), None
        if made is None:
            return None
        codes = made.x
    else:
        return None
    if not is_byte(spec(codes).dtype) or edit.array(codes) is not None:
        return None
    if not all(p is None or _is_shared(p, summed) for p in (zero, scale)):
        return None
    return Activation(codes, _integers(zero, edit), None if scale is None else _floats(scale, edit))


def weights(value: SSAValue, outputs: int, edit: Edit) -> Weights | None:
    """The codes of a constant operand whose scales may vary along the axis ``outputs`` only."""
    op, scale = value.owner, None
    if isinstance(op, DequantizeOp):
        codes, points, scales = (edit.array(v) for v in (op.x, op.zero, op.scale))
        if codes is None or scales is None or op.block.data or op.to.data is not f32:
            return None
        if op.zero is not None and points is None:
            return None
        whole = codes.astype(np.int64) - (0 if points is None else points.astype(np.int64))
        scale = _per_output(scales.astype(np.float32), outputs, codes.ndim)
        if scale is None:
            return None
    else:
        found = edit.array(value)
        if found is None or spec(value).dtype is not i32:
            return None
        whole = found.astype(np.int64)
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    offset = 0 if low >= -128 and high <= 127 else low + 128
    if high - offset > 127:
        return None
    return Weights((whole - offset).astype(np.int8), offset, scale)


def unsigned(a: Activation, edit: Edit) -> Activation:
    """The same numbers with codes of u8: what x86 multiplies with signed weights at full speed."""
    if spec(a.codes).dtype is u8:
        return a
    flipped = edit.map("xor", a.codes, edit.constant(np.array(-128, i8.numpy)))
    codes = edit.add(BitcastOp, flipped, to=u8)
    return Activation(codes, _sum(a.zero, np.array(128), edit), a.scale)


def is_code(zero: Term, dtype: DType) -> bool:
    """Whether a zero point is surely one of the codes of ``dtype``."""
    if isinstance(zero, SSAValue):
        wide = made_by(behind_repeats(zero), ConvertOp)
        return wide is not None and spec(wide.x).dtype is dtype
    limits = np.iinfo(dtype.numpy)
    return bool((zero >= limits.min).all() and (zero <= limits.max).all())


def times(a: Term, b: Term, edit: Edit) -> Term:
    """A product of two terms of one kind, formed now when both are known."""
    if isinstance(a, SSAValue) or isinstance(b, SSAValue):
        return edit.map("mul", value_of(a, edit), value_of(b, edit))
    return a * b


def value_of(term: Term, edit: Edit) -> SSAValue:
    """A term as a value of the graph: integers in i32, where they wrap, floats in f32."""
    if isinstance(term, SSAValue):
        return term
    floats = term.dtype.kind == "f"
    return edit.constant(term.astype(np.float32 if floats else np.int32))


def _sum(a: Term, b: Array, edit: Edit) -> Term:
    return edit.map("add", a, value_of(b, edit)) if isinstance(a, SSAValue) else a + b


def _is_shared(value: SSAValue, summed: int) -> bool:
    """Whether a tensor has one element along each of the last axes, as far as it has them."""
    return all(d == 1 for d in spec(value).dims[-summed:])


def _integers(value: SSAValue | None, edit: Edit) -> Term:
    if value is None:
        return NO_ZERO
    array = edit.array(value)
    if array is not None:
        return array.astype(np.int64)
    return value if spec(value).dtype is i32 else edit.add(ConvertOp, value, to=i32)


def _floats(value: SSAValue, edit: Edit) -> Term:
    array = edit.array(value)
    if array is not None:
        return array.astype(np.float32)
    return value if spec(value).dtype is f32 else edit.add(ConvertOp, value, to=f32)


def _per_output(scales: Array, outputs: int, rank: int) -> Array | None:
    shape = (1,) * (rank - scales.ndim) + scales.shape
    if any(n != 1 for axis, n in enumerate(shape) if axis != outputs):
        return None
    return scales.reshape(-1) if shape[outputs] > 1 else scales.reshape(())

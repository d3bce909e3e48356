"""Quantised tensors: codes of few bits, with scales and zero points that give them values."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, f32, i8, i32
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr, ceildiv
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.shapes import (
    broadcasts_to,
    check_axis,
    check_filled,
    check_float,
    check_kind,
    misfit,
)
from tapeout.ir.types import DTypeAttr, IntAttr, Spec, TensorType, spec

REACH = 127
"""The greatest code of a row that is rounded to bytes."""
SMALLEST = np.finfo(np.float32).tiny * REACH
"""The magnitude of a row of zeros: its scale can be inverted."""


@irdl_op_definition
class DequantizeOp(NNOp):
    """``y = (x - zero) * scale`` in f32, rounded once to ``to``.

    ``x``: codes, integers of 1 to 32 bits. ``scale`` (a float) and ``zero`` (as ``x``; 0 when
    absent) broadcast to ``x``. With ``block`` > 0 they have its rank, and each of their elements
    stands for ``block`` neighbours along ``axis``, the last one perhaps for fewer. What the
    tensor is, the operator says: passes look through it at the codes. Errors: E0202, E0209,
    E0210.
    """

    name = "nn.dequantize"
    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    zero = opt_operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(0))
    block = prop_def(IntAttr, IntAttr(0))
    to = prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, scale: Spec, zero: Spec | None, *, axis: int, block: int, to: DType) -> Spec:
        """As ``x``, of type ``to``."""
        check_float("dequantize", scale)
        if not x.dtype.is_integer or x.dtype.bits > 32:
            raise CompileError("E0210", "dequantize: x holds no codes", [("x", x.dtype)])
        if block:
            check_axis(axis, x.rank, "dequantize")
        for name, parameter in (("scale", scale), ("zero", zero)):
            if parameter is not None and not _fits(parameter, x, axis, block):
                raise misfit("dequantize", ("x", x.dims), (name, parameter.dims))
        return x.with_dtype(to)

    @staticmethod
    def reference(
        x: Array, scale: Array, zero: Array | None, *, axis: int, block: int, to: DType
    ) -> Array:
        """Subtract, multiply, round."""

        def repeated(parameter: Array) -> Array:
            wide = parameter.astype(np.float32)
            return np.repeat(wide, block, axis).take(range(x.shape[axis]), axis) if block else wide

        y = x.astype(np.float32)
        if zero is not None:
            y = y - repeated(zero)
        return (y * repeated(scale)).astype(to.numpy)

    @staticmethod
    def cost(x: Spec, scale: Spec, zero: Spec | None, **attrs: object) -> Expr:
        """A multiplication per element, and a subtraction where there is a zero point."""
        return x.size * (1 if zero is None else 2)

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Maps, with blocks of scales repeated."""
        emit = Emit(builder)

        def repeated(parameter: SSAValue) -> SSAValue:
            wide = emit.convert(parameter, f32)
            return _repeated(emit, wide, spec(self.x), self.axis.data, self.block.data)

        y = emit.convert(self.x, f32)
        if self.zero is not None:
            y = emit.map("sub", y, repeated(self.zero))
        return [emit.convert(emit.map("mul", y, repeated(self.scale)), self.to.data)]


@irdl_op_definition
class RoundRowsOp(NNOp):
    """Rows of floats as signed bytes around 0, with the scale and the sum of each row.

    ``scale = max(max |x|, tiny) * (1 / 127)``, ``codes = round(x * (1 / scale))`` with ties to
    even, ``sums`` the sum of a row's codes. A row of zeros has codes of 0. Shapes: ``x`` f32
    ``[*, K]``, ``codes`` i8 as ``x``, ``scale`` f32 and ``sums`` i32 ``[*, 1]``. Errors: E0209.
    """

    name = "nn.round_rows"
    x = operand_def(TensorType)
    codes = result_def(TensorType)
    scale = result_def(TensorType)
    sums = result_def(TensorType)

    @staticmethod
    def infer(x: Spec) -> tuple[Spec, Spec, Spec]:
        """As the class says."""
        check_kind("round_rows", ("float",), x)
        check_filled("round_rows", "x", x.dims[-1:])
        row = (*x.dims[:-1], ONE)
        return x.with_dtype(i8), Spec(row, f32), Spec(row, i32)

    @staticmethod
    def reference(x: Array) -> tuple[Array, Array, Array]:
        """In f32, each step rounded."""
        top = np.maximum(np.abs(x).max(axis=-1, keepdims=True), SMALLEST)
        scale = top * np.float32(1 / REACH)
        with np.errstate(all="ignore"):
            steps = np.rint(x * (np.float32(1) / scale))
        codes = np.clip(np.nan_to_num(steps), -128, 127).astype(np.int8)
        return codes, scale, codes.sum(axis=-1, keepdims=True, dtype=np.int32)

    @staticmethod
    def cost(x: Spec) -> Expr:
        """A magnitude, a maximum, a multiplication, a rounding and a sum per element."""
        return x.size * 5

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Two passes over a row, and a third for the sum."""
        emit, axes = Emit(builder), (spec(self.x).rank - 1,)
        top = emit.reduce("max", emit.map("abs", self.x), axes)
        top = emit.map("max", top, emit.constant(SMALLEST, f32))
        scale = emit.map("mul", top, emit.constant(1 / REACH, f32))
        steps = emit.map("round", emit.map("mul", self.x, emit.map("reciprocal", scale)))
        codes = emit.op(ConvertOp, steps, to=i8, saturate=True)
        return [codes, scale, emit.reduce("sum", emit.convert(codes, i32), axes)]


def _fits(parameter: Spec, x: Spec, axis: int, block: int) -> bool:
    if not block:
        return broadcasts_to(parameter.dims, x.dims)
    counts = [ceildiv(d, block) if i == axis else d for i, d in enumerate(x.dims)]
    return parameter.rank == x.rank and all(
        a in (b, 1) for a, b in zip(parameter.dims, counts, strict=True)
    )


def _repeated(emit: Emit, parameter: SSAValue, x: Spec, axis: int, block: int) -> SSAValue:
    """Each element along ``axis`` as often as it counts."""
    dims = spec(parameter).dims
    if not block or dims[axis] == 1:
        return parameter
    beside = [*dims[: axis + 1], 1, *dims[axis + 1 :]]
    wide = [*dims[: axis + 1], block, *dims[axis + 1 :]]
    joined = [*dims[:axis], dims[axis] * block, *dims[axis + 1 :]]
    whole = emit.reshape(emit.expand(emit.reshape(parameter, beside), wide), joined)
    return emit.part(whole, axis, 0, x.dims[axis])

"""Normalisations along axes: softmax, layer norm, root-mean-square norm."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
)

from tapeout.ir.build import Emit
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import check_axis, check_broadcasts_to, check_float, check_same_dtype
from tapeout.ir.types import FloatAttr, IntAttr, Spec, TensorType, spec


@irdl_op_definition
class SoftmaxOp(NNOp):
    """``y = exp(x - max(x)) / sum(exp(x - max(x)))`` along ``axis``.

    Narrow floats are computed in f32. A line of ``-inf`` only gives NaN, as in numpy.
    Errors: E0202, E0210.
    """

    name = "nn.softmax"
    x = operand_def(TensorType)
    axis = prop_def(IntAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, axis: int) -> Spec:
        """As ``x``."""
        check_float("softmax", x)
        check_axis(axis, x.rank, "softmax")
        return x

    @staticmethod
    def reference(x: Array, *, axis: int) -> Array:
        """Shift by the maximum, so that nothing overflows."""
        with np.errstate(invalid="ignore"):
            grown = np.exp(wide(x) - wide(x).max(axis=axis, keepdims=True, initial=-np.inf))
            return (grown / grown.sum(axis=axis, keepdims=True)).astype(x.dtype)

    @staticmethod
    def cost(x: Spec, *, axis: int) -> Expr:
        """Maximum, subtraction, exp, sum and division: 5 per element."""
        return x.size * 5

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Reductions and maps."""
        emit, axes = Emit(builder), (self.axis.data,)
        x = emit.widened(self.x)
        grown = emit.map("exp", emit.map("sub", x, emit.reduce("max", x, axes)))
        y = emit.map("div", grown, emit.reduce("sum", grown, axes))
        return [emit.convert(y, spec(self.x).dtype)]


@irdl_op_definition
class LayerNormOp(NNOp):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + bias``.

    Mean and (biased) variance are over all axes from ``axis`` on. ``scale`` and ``bias``
    broadcast to ``x.dims[axis:]``. Narrow floats are computed in f32 and rounded once.
    Errors: E0202, E0203, E0209, E0210.
    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    """

    name = "nn.layer_norm"
    x = operand_def(TensorType)
    scale = opt_operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(-1))
    epsilon = prop_def(FloatAttr)
    y = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(x: Spec, scale: Spec | None, bias: Spec | None, *, axis: int, epsilon: float) -> Spec:
        """As ``x``."""
        _check_norm("layer_norm", x, axis, scale=scale, bias=bias)
        return x

    @staticmethod
    def reference(
        x: Array, scale: Array | None, bias: Array | None, *, axis: int, epsilon: float
    ) -> Array:
        """Two passes: the mean, then the variance around it."""
        axes = tuple(range(axis % x.ndim, x.ndim))
        centred = wide(x) - wide(x).mean(axis=axes, keepdims=True)
        variance = np.square(centred).mean(axis=axes, keepdims=True)
        y = centred / np.sqrt(variance + epsilon)
        y = y if scale is None else y * wide(scale)
        return (y if bias is None else y + wide(bias)).astype(x.dtype)

    @staticmethod
    def cost(x: Spec, scale: Spec | None, bias: Spec | None, *, axis: int, epsilon: float) -> Expr:
        """6 per element, and one each for scale and bias."""
        return x.size * (6 + (scale is not None) + (bias is not None))

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Reductions and maps."""
        emit, axes = Emit(builder), _normalised(self.x, self.axis.data)
        x = emit.widened(self.x)
        centred = emit.map("sub", x, emit.mean(x, axes))
        variance = emit.mean(emit.map("mul", centred, centred), axes)
        y = emit.map("mul", centred, _inverse_root(emit, variance, self.epsilon.data))
        if self.scale is not None:
            y = emit.map("mul", y, emit.widened(self.scale))
        if self.bias is not None:
            y = emit.map("add", y, emit.widened(self.bias))
        return [emit.convert(y, spec(self.x).dtype)]


@irdl_op_definition
class RmsNormOp(NNOp):
    """``y = x / sqrt(mean(x * x) + epsilon) * scale``, the mean over all axes from ``axis`` on.

    ``scale`` broadcasts to ``x.dims[axis:]``. Narrow floats are computed in f32 and rounded
    once. Errors: E0202, E0203, E0209, E0210.
    Source: Zhang, Sennrich 2019, arXiv:1910.07467.
    """

    name = "nn.rms_norm"
    x = operand_def(TensorType)
    scale = opt_operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(-1))
    epsilon = prop_def(FloatAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, scale: Spec | None, *, axis: int, epsilon: float) -> Spec:
        """As ``x``."""
        _check_norm("rms_norm", x, axis, scale=scale)
        return x

    @staticmethod
    def reference(x: Array, scale: Array | None, *, axis: int, epsilon: float) -> Array:
        """Divide by the root of the mean square."""
        axes = tuple(range(axis % x.ndim, x.ndim))
        power = np.square(wide(x)).mean(axis=axes, keepdims=True)
        y = wide(x) / np.sqrt(power + epsilon)
        return (y if scale is None else y * wide(scale)).astype(x.dtype)

    @staticmethod
    def cost(x: Spec, scale: Spec | None, *, axis: int, epsilon: float) -> Expr:
        """3 per element, and one for the scale."""
        return x.size * (3 + (scale is not None))

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """Reductions and maps."""
        emit, axes = Emit(builder), _normalised(self.x, self.axis.data)
        x = emit.widened(self.x)
        power = emit.mean(emit.map("mul", x, x), axes)
        y = emit.map("mul", x, _inverse_root(emit, power, self.epsilon.data))
        if self.scale is not None:
            y = emit.map("mul", y, emit.widened(self.scale))
        return [emit.convert(y, spec(self.x).dtype)]


def _check_norm(op: str, x: Spec, axis: int, **parameters: Spec | None) -> None:
    check_float(op, x)
    first = check_axis(axis, x.rank, op)
    for name, value in parameters.items():
        if value is not None:
            check_same_dtype(op, x, value)
            check_broadcasts_to(op, name, value.dims, x.dims[first:])


def _normalised(x: SSAValue, axis: int) -> tuple[int, ...]:
    rank = spec(x).rank
    return tuple(range(axis % rank, rank))


def _inverse_root(emit: Emit, power: SSAValue, epsilon: float) -> SSAValue:
    return emit.map("rsqrt", emit.map("add", power, emit.like(epsilon, power)))

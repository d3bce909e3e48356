"""Normalisations along axes: softmax, layer norm, root-mean-square norm."""

from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
)

from tapeout.ir.op import NNOp
from tapeout.ir.shapes import check_axis, check_broadcasts_to, check_float, check_same_dtype
from tapeout.ir.types import FloatAttr, IntAttr, Spec, TensorType


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


def _check_norm(op: str, x: Spec, axis: int, **parameters: Spec | None) -> None:
    check_float(op, x)
    first = check_axis(axis, x.rank, op)
    for name, value in parameters.items():
        if value is not None:
            check_same_dtype(op, x, value)
            check_broadcasts_to(op, name, value.dims, x.dims[first:])

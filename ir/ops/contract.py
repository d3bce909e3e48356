"""Products: operators that multiply and sum over a shared axis."""

import math

import numpy as np
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from tapeout.ir.assumptions import may_equal
from tapeout.ir.dtypes import DType, dtype_of, f32, i32
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import is_byte, is_narrow, wide, window_taps
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import broadcast, check_dims, check_same_dtype, shape_text
from tapeout.ir.types import DTypeAttr, FlagAttr, IntAttr, IntsAttr, Spec, TensorType


def product_type(op: str, a: Spec, b: Spec, to: DType | None) -> DType:
    """The result type of a product: ``to``, or that of both, or i32 for bytes, also mixed.

    Errors: E0203 for other pairs of types, and for ``to`` that is not f32 of narrow floats.
    """
    if is_byte(a.dtype) and is_byte(b.dtype) and to is None:
        return i32
    check_same_dtype(op, a, b)
    if to is None or to is a.dtype:
        return a.dtype
    if to is not f32 or not is_narrow(a.dtype):
        raise CompileError(
            "E0203",
            f"{op}: the result cannot have this type",
            [("operands", a.dtype), ("to", to)],
            "a product of floats below 32 bits may give f32; others give their own type",
        )
    return to


@irdl_op_definition
class MatmulOp(NNOp):
    """``y[..., m, n] = sum_k a[..., m, k] * b[..., k, n]``; leading axes broadcast.

    ``transpose_b``: ``b`` is ``[..., n, k]``. Both have rank >= 2. Narrow floats accumulate in
    f32, and the sum is rounded to their type, or stays as it is with ``to`` f32; bytes (i8, u8,
    also mixed) give exact sums in i32, which wrap. Cost: ``2*m*n*k`` per batch. Errors: E0203,
    E0206 when the inner sizes differ.
    """

    name = "nn.matmul"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    transpose_b = prop_def(FlagAttr, FlagAttr(False))
    to = opt_prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(a: Spec, b: Spec, *, transpose_b: bool, to: DType | None = None) -> Spec:
        """``[*batch, m, n]``."""
        dtype = product_type("matmul", a, b, to)
        assert min(a.rank, b.rank) >= 2, "importers lift vectors to matrices"
        k, n = reversed(b.dims[-2:]) if transpose_b else b.dims[-2:]
        if not may_equal(a.dims[-1], k):
            raise CompileError(
                "E0206",
                "matmul: the inner sizes differ",
                [("a", shape_text(a.dims)), ("b", shape_text(b.dims))],
            )
        return Spec((*broadcast(a.dims[:-2], b.dims[:-2]), a.dims[-2], n), dtype)

    @staticmethod
    def reference(a: Array, b: Array, *, transpose_b: bool, to: DType | None = None) -> Array:
        """Numpy's product in the accumulation type."""
        right = np.swapaxes(b, -1, -2) if transpose_b else b
        left, right, result = _factors(a, right, to)
        with np.errstate(all="ignore"):
            return _narrowed(np.matmul(left, right), result)

    @staticmethod
    def cost(a: Spec, b: Spec, **attrs: object) -> Expr:
        """A multiply and an add for each of ``m*n*k``."""
        return MatmulOp.infer(a, b, **attrs).size * a.dims[-1] * 2  # type: ignore[arg-type]


@irdl_op_definition
class ConvOp(NNOp):
    """Convolution (cross-correlation) over any number of spatial axes.

    ``x [N, C, *S]`` or, with ``channels_last``, ``[N, *S, C]``; ``w [O, C/groups, *K]``; ``bias
    [O]`` of the result's type; types as in :class:`MatmulOp`. ``pads`` are all low sides, then
    all high sides. Output size per axis: ``(s + low + high - dilation*(k-1) - 1) // stride + 1``.
    Cost: ``2*C/groups*prod(K)`` per output element. Errors: E0203, E0207 for channels and groups
    that do not fit, E0209.
    """

    name = "nn.conv"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    strides = prop_def(IntsAttr)
    pads = prop_def(IntsAttr)
    dilations = prop_def(IntsAttr)
    groups = prop_def(IntAttr, IntAttr(1))
    channels_last = prop_def(FlagAttr, FlagAttr(False))
    to = opt_prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec,
        w: Spec,
        bias: Spec | None,
        *,
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        groups: int,
        channels_last: bool,
        to: DType | None = None,
    ) -> Spec:
        """``[N, O, *S']`` in the layout of ``x``."""
        dtype = product_type("conv", x, w, to)
        n = len(strides)
        channels = x.dims[-1] if channels_last else x.dims[1]
        fits = x.rank == w.rank == n + 2 and len(pads) == 2 * n and len(dilations) == n
        if (
            not fits
            or groups < 1
            or not may_equal(w.dims[1] * groups, channels)
            or w.dims[0] % groups != 0
        ):
            raise CompileError(
                "E0207",
                "conv: channels, groups or ranks do not fit",
                [("x", shape_text(x.dims)), ("w", shape_text(w.dims)), ("groups", groups)],
                "w is [O, C / groups, *K] and groups divides O",
            )
        if bias is not None:
            check_same_dtype("conv", x.with_dtype(dtype), bias)
            check_dims("conv", "bias", bias.dims, w.dims[:1])
        spatial = x.dims[1:-1] if channels_last else x.dims[2:]
        sizes = [
            (s + pads[i] + pads[n + i] - dilations[i] * (w.dims[2 + i] - 1) - 1) // strides[i] + 1
            for i, s in enumerate(spatial)
        ]
        dims = [*sizes, w.dims[0]] if channels_last else [w.dims[0], *sizes]
        return Spec((x.dims[0], *dims), dtype)

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        bias: Array | None,
        *,
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        groups: int,
        channels_last: bool,
        to: DType | None = None,
    ) -> Array:
        """Sum over kernel positions of one product each."""
        n = len(strides)
        x = np.moveaxis(x, -1, 1) if channels_last else x
        kernel = w.shape[2:]
        sizes = [
            (x.shape[2 + i] + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1)
            // strides[i]
            + 1
            for i in range(n)
        ]
        x, w, result = _factors(x, w, to)
        weights = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel)
        taps = window_taps(x, 0, kernel, strides, pads, dilations, sizes)
        total = np.zeros((x.shape[0], groups, weights.shape[1], math.prod(sizes)), weights.dtype)
        for tap, window in taps:
            columns = window.reshape(x.shape[0], groups, w.shape[1], math.prod(sizes))
            total += _grouped_product(weights[(..., *tap)], columns)
        y = total.reshape(x.shape[0], w.shape[0], *sizes)
        if bias is not None:
            y = y + bias.astype(y.dtype).reshape(-1, *([1] * n))
        return _narrowed(np.moveaxis(y, 1, -1) if channels_last else y, result)

    @staticmethod
    def cost(x: Spec, w: Spec, bias: Spec | None, **attrs: object) -> Expr:
        """Two flops per output element, input channel of the group and kernel position."""
        taps = w.size // w.dims[0]
        return ConvOp.infer(x, w, bias, **attrs).size * taps * 2  # type: ignore[arg-type]


def _factors(a: Array, b: Array, to: DType | None) -> tuple[Array, Array, DType]:
    """Factors in the type in which their products are summed, and the type of the result.

    Bytes go through f64, which is exact below 2^53 and which BLAS multiplies.
    """
    if is_byte(dtype_of(a)):
        return a.astype(np.float64), b.astype(np.float64), i32
    return wide(a), wide(b), to or dtype_of(a)


def _narrowed(total: Array, to: DType) -> Array:
    return (total.astype(np.int64) if to is i32 and total.dtype == np.float64 else total).astype(
        to.numpy
    )


def _grouped_product(weights: Array, columns: Array) -> Array:
    """``[g, o, c] @ [n, g, c, p]``, without a product where a group has one channel."""
    with np.errstate(all="ignore"):
        return weights * columns if weights.shape[2] == 1 else np.matmul(weights, columns)

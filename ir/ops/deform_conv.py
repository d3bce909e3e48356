"""Deformable convolution: a convolution whose taps are moved by learnt offsets."""

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
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.sampling import sample
from tapeout.ir.shapes import check_dims, check_float, check_rank, check_same_dtype, misfit
from tapeout.ir.types import IntAttr, IntsAttr, Spec, TensorType


@irdl_op_definition
class DeformConvOp(NNOp):
    """2-D convolution that samples ``x`` bilinearly at tap position plus offset.

    ``x [N, C, H, W]``, ``w [O, C/groups, KH, KW]``, ``offset [N, G*KH*KW*2, OH, OW]`` (row
    offset, then column offset, per tap of each of the ``offset_groups`` G), ``bias [O]``,
    ``mask [N, G*KH*KW, OH, OW]`` multiplies each sample. Samples outside ``x`` are 0. Sizes as
    for ``nn.conv``. Errors: E0203, E0207, E0209, E0210.
    Source: Zhu et al. 2018, arXiv:1811.11168; ONNX DeformConv-19.
    """

    name = "nn.deform_conv"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    offset = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    mask = opt_operand_def(TensorType)
    strides = prop_def(IntsAttr)
    pads = prop_def(IntsAttr)
    dilations = prop_def(IntsAttr)
    groups = prop_def(IntAttr, IntAttr(1))
    offset_groups = prop_def(IntAttr, IntAttr(1))
    y = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(
        x: Spec,
        w: Spec,
        offset: Spec,
        bias: Spec | None,
        mask: Spec | None,
        *,
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        groups: int,
        offset_groups: int,
    ) -> Spec:
        """``[N, O, OH, OW]``."""
        check_float("deform_conv", x)
        check_same_dtype("deform_conv", x, offset)
        check_rank("deform_conv", "x", x, 4)
        y = ConvOp.infer(
            x,
            w,
            bias,
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=groups,
            channels_last=False,
        )
        if not may_divide(x.dims[1], offset_groups):
            raise misfit("deform_conv", ("x", x.dims), fix="offset groups divide the channels")
        places = w.dims[2] * w.dims[3] * offset_groups
        want = (x.dims[0], places * 2, *y.dims[2:])
        check_dims("deform_conv", "offset", offset.dims, want)
        if mask is not None:
            check_same_dtype("deform_conv", x, mask)
            check_dims("deform_conv", "mask", mask.dims, (x.dims[0], places, *y.dims[2:]))
        return y

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        offset: Array,
        bias: Array | None,
        mask: Array | None,
        *,
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        groups: int,
        offset_groups: int,
    ) -> Array:
        """Sample every tap of every window, then one product per group."""
        (kh, kw), (oh, ow) = w.shape[2:], offset.shape[2:]
        moved = wide(offset).reshape(x.shape[0], offset_groups, kh, kw, 2, oh, ow)
        grid = np.indices((kh, kw, oh, ow), dtype=np.float32)
        base = [grid[2 + i] * strides[i] - pads[i] + grid[i] * dilations[i] for i in range(2)]
        columns = np.zeros((x.shape[0], x.shape[1], kh, kw, oh, ow), moved.dtype)
        share = x.shape[1] // offset_groups
        for n, part in np.ndindex(x.shape[0], offset_groups):
            places = [base[i] + moved[n, part, :, :, i] for i in range(2)]
            chosen = slice(part * share, (part + 1) * share)
            columns[n, chosen] = sample(wide(x)[n, chosen], places, "linear", "zeros", True)
        if mask is not None:
            kept = wide(mask).reshape(x.shape[0], offset_groups, 1, kh, kw, oh, ow)
            columns *= np.repeat(kept, share, axis=1).reshape(columns.shape)
        weights = wide(w).reshape(groups, w.shape[0] // groups, -1)
        y = np.matmul(weights, columns.reshape(x.shape[0], groups, weights.shape[2], -1))
        y = y.reshape(x.shape[0], w.shape[0], oh, ow)
        if bias is not None:
            y = y + wide(bias).reshape(-1, 1, 1)
        return y.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, w: Spec, offset: Spec, *_: object, **attrs: object) -> Expr:
        """The convolution's products, and 8 flops per sampled element."""
        taps = w.dims[2] * w.dims[3]
        places = offset.dims[0] * offset.dims[2] * offset.dims[3]
        return places * (w.size * 2 + x.dims[1] * taps * 8)

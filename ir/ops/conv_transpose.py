"""Transposed convolution: the gradient of a convolution, used to upsample."""

from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from tapeout.ir.errors import CompileError
from tapeout.ir.op import NNOp
from tapeout.ir.shapes import check_float, check_same_dtype, never_equal, shape_text
from tapeout.ir.types import IntAttr, IntsAttr, Spec, TensorType


@irdl_op_definition
class ConvTransposeOp(NNOp):
    """Each element of ``x`` adds its multiple of the kernel to ``y``, ``stride`` apart.

    ``x [N, C, *S]``, ``w [C, O/groups, *K]``, ``bias [O]``. ``pads`` (all low sides, then all
    high sides) are cut off the result, ``output_padding`` is added to its high side: size per
    axis ``stride*(s-1) + dilation*(k-1) + 1 + output_padding - low - high``. Narrow floats
    accumulate in f32. Cost: ``2*O/groups*prod(K)`` per element of ``x``.
    Errors: E0203, E0207, E0210.
    """

    name = "nn.conv_transpose"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    strides = prop_def(IntsAttr)
    pads = prop_def(IntsAttr)
    dilations = prop_def(IntsAttr)
    output_padding = prop_def(IntsAttr)
    groups = prop_def(IntAttr, IntAttr(1))
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
        output_padding: tuple[int, ...],
        groups: int,
    ) -> Spec:
        """``[N, O, *S']``."""
        check_float("conv_transpose", x)
        check_same_dtype("conv_transpose", *([x, w] if bias is None else [x, w, bias]))
        n = len(strides)
        assert len(pads) == 2 * n, "one pad per side of a spatial axis"
        assert len(dilations) == len(output_padding) == n, "one entry per spatial axis"
        ranks_fit = x.rank == w.rank == n + 2 and groups > 0
        if not ranks_fit or never_equal(w.dims[0], x.dims[1]) or x.dims[1] % groups != 0:
            raise CompileError(
                "E0207",
                "conv_transpose: channels, groups or ranks do not fit",
                [("x", shape_text(x.dims)), ("w", shape_text(w.dims)), ("groups", groups)],
                "w is [C, O / groups, *K] and groups divides C",
            )
        sizes = [
            (x.dims[2 + i] - 1) * strides[i]
            + (w.dims[2 + i] - 1) * dilations[i]
            + (1 + output_padding[i] - pads[i] - pads[n + i])
            for i in range(n)
        ]
        return x.with_dims([x.dims[0], w.dims[1] * groups, *sizes])

"""Transposed convolution: the gradient of a convolution, used to upsample."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from tapeout.ir.assumptions import may_divide, may_equal
from tapeout.ir.build import Emit
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.views import PadOp, SliceOp
from tapeout.ir.shapes import check_dims, check_float, check_same_dtype, shape_text
from tapeout.ir.types import IntAttr, IntsAttr, Spec, TensorType, spec


@irdl_op_definition
class ConvTransposeOp(NNOp):
    """Each element of ``x`` adds its multiple of the kernel to ``y``, ``stride`` apart.

    ``x [N, C, *S]``, ``w [C, O/groups, *K]``, ``bias [O]``. ``pads`` (all low sides, then all
    high sides) are cut off the result, ``output_padding`` is added to its high side: size per
    axis ``stride*(s-1) + dilation*(k-1) + 1 + output_padding - low - high``. Narrow floats
    accumulate in f32. Cost: ``2*O/groups*prod(K)`` per element of ``x``.
    Errors: E0203, E0207, E0209, E0210.
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
        fits = ranks_fit and may_equal(w.dims[0], x.dims[1]) and may_divide(x.dims[1], groups)
        if not fits:
            raise CompileError(
                "E0207",
                "conv_transpose: channels, groups or ranks do not fit",
                [("x", shape_text(x.dims)), ("w", shape_text(w.dims)), ("groups", groups)],
                "w is [C, O / groups, *K] and groups divides C",
            )
        if bias is not None:
            check_dims("conv_transpose", "bias", bias.dims, (w.dims[1] * groups,))
        sizes = [
            (x.dims[2 + i] - 1) * strides[i]
            + (w.dims[2 + i] - 1) * dilations[i]
            + (1 + output_padding[i] - pads[i] - pads[n + i])
            for i in range(n)
        ]
        return x.with_dims([x.dims[0], w.dims[1] * groups, *sizes])

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        bias: Array | None,
        *,
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        output_padding: tuple[int, ...],
        groups: int,
    ) -> Array:
        """Add each kernel position's product at its place, then cut the pads off."""
        n = len(strides)
        kernel = w.shape[2:]
        full = [
            (x.shape[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(n)
        ]
        extra = [max(0, output_padding[i] - pads[n + i]) for i in range(n)]
        columns = wide(x).reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        weights = wide(w).reshape(groups, -1, *w.shape[1:])
        room = [f + e for f, e in zip(full, extra, strict=True)]
        y = np.zeros((x.shape[0], w.shape[1] * groups, *room), columns.dtype)
        for tap in np.ndindex(*kernel):
            part = np.matmul(weights[(..., *tap)].swapaxes(1, 2), columns)
            places = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, s, size in zip(tap, dilations, strides, x.shape[2:], strict=True)
            )
            y[(slice(None), slice(None), *places)] += part.reshape(x.shape[0], -1, *x.shape[2:])
        sizes = [full[i] + output_padding[i] - pads[i] - pads[n + i] for i in range(n)]
        inside = tuple(slice(pads[i], pads[i] + sizes[i]) for i in range(n))
        y = y[(slice(None), slice(None), *inside)]
        if bias is not None:
            y = y + wide(bias).reshape(-1, *([1] * n))
        return y.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, w: Spec, bias: Spec | None, **attrs: object) -> Expr:
        """Two flops per element of ``x``, output channel of the group and kernel position."""
        return x.size * (w.size // w.dims[0]) * 2

    def decompose(self, builder: Builder) -> Sequence[SSAValue] | None:
        """A convolution of ``x`` spread out with zeros, by the kernel turned round.

        None for a kernel of unknown size, or for pads wider than the kernel's reach.
        """
        at = self.attrs()
        kernel = [d.constant for d in spec(self.w).dims[2:]]
        n = len(kernel)
        reach = [d * (k - 1) for d, k in zip(at["dilations"], kernel, strict=True) if k is not None]
        if len(reach) < n or any(
            reach[i] < max(at["pads"][i], at["pads"][n + i] - at["output_padding"][i])
            for i in range(n)
        ):
            return None
        emit = Emit(builder)
        pads = [reach[i] - at["pads"][i] for i in range(n)]
        pads += [reach[i] - at["pads"][n + i] + at["output_padding"][i] for i in range(n)]
        x, w = _spread(emit, self.x, at["strides"]), _turned(emit, self.w, at["groups"])
        fixed = {"strides": (1,) * n, "pads": tuple(pads), "dilations": at["dilations"]}
        return [emit.op(ConvOp, x, w, self.bias, groups=at["groups"], **fixed)]


def _spread(emit: Emit, x: SSAValue, strides: tuple[int, ...]) -> SSAValue:
    """``stride - 1`` zeros between neighbours along each spatial axis."""
    for axis, stride in enumerate(strides, start=2):
        dims = spec(x).dims
        if stride == 1:
            continue
        high = [ZERO] * (len(dims) + 1)
        high[axis + 1] = ZERO + (stride - 1)
        split = emit.reshape(x, (*dims[: axis + 1], 1, *dims[axis + 1 :]))
        wide_apart = emit.op(PadOp, split, None, low=(ZERO,) * len(high), high=tuple(high))
        joined = emit.reshape(wide_apart, (*dims[:axis], dims[axis] * stride, *dims[axis + 1 :]))
        x = emit.part(joined, axis, 0, (dims[axis] - 1) * stride + 1)
    return x


def _turned(emit: Emit, w: SSAValue, groups: int) -> SSAValue:
    """``w [C, O/groups, *K]`` as a convolution's ``[O, C/groups, *K]``, back to front."""
    channels, outputs, *kernel = spec(w).dims
    grouped = emit.reshape(w, (groups, channels // groups, outputs, *kernel))
    swapped = emit.transpose(grouped, (0, 2, 1, *range(3, 3 + len(kernel))))
    flat = emit.reshape(swapped, (outputs * groups, channels // groups, *kernel))
    starts = (ZERO, ZERO, *(k - 1 for k in kernel))
    steps = (1, 1, *([-1] * len(kernel)))
    return emit.op(SliceOp, flat, starts=starts, sizes=spec(flat).dims, steps=steps)

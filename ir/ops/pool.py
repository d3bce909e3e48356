"""Pooling: one value per window, over any number of spatial axes."""

from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr
from tapeout.ir.op import NNOp
from tapeout.ir.shapes import check_kind, misfit
from tapeout.ir.types import ExprsAttr, FlagAttr, IntsAttr, Spec, StrAttr, TensorType


@irdl_op_definition
class PoolOp(NNOp):
    """``max``, ``sum`` or ``mean`` of each window.

    ``x [N, C, *S]`` or, with ``channels_last``, ``[N, *S, C]``. Window ``o`` of an axis holds
    positions ``o * stride - low + t * dilation`` for ``t < kernel``; those outside ``x`` take
    no part, in the count of a mean neither. ``pads`` are all low sides, then all high sides.
    ``sizes`` are the spatial sizes of the result: how a size is rounded is the importer's. A
    window with nothing inside gives the identity of ``max`` and ``sum``, NaN for ``mean``.
    Narrow floats accumulate in f32. Cost: one flop per window element. Errors: E0209, E0210.
    """

    name = "nn.pool"
    x = operand_def(TensorType)
    fn = prop_def(StrAttr)
    kernel = prop_def(IntsAttr)
    strides = prop_def(IntsAttr)
    pads = prop_def(IntsAttr)
    dilations = prop_def(IntsAttr)
    sizes = prop_def(ExprsAttr)
    channels_last = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec,
        *,
        fn: str,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        sizes: tuple[Expr, ...],
        channels_last: bool,
    ) -> Spec:
        """``[N, C, *sizes]`` in the layout of ``x``."""
        assert fn in ("max", "sum", "mean"), f"no pool {fn!r}"
        check_kind("pool", ("float",) if fn == "mean" else ("float", "int", "uint"), x)
        _check_windows(x, kernel, strides, pads, dilations, sizes)
        if channels_last:
            return x.with_dims((x.dims[0], *sizes, x.dims[-1]))
        return x.with_dims((*x.dims[:2], *sizes))


@irdl_op_definition
class MaxPoolIndicesOp(NNOp):
    """The maximum of each window, and where in the whole of ``x`` it lies (the first of equals).

    ``x [N, C, *S]``; windows as for ``nn.pool``. ``indices`` (i64) number the elements of
    ``x``, as ONNX says, in row-major order, or with ``column_major`` with the spatial axes of
    each channel in column-major order.
    """

    name = "nn.max_pool_indices"
    x = operand_def(TensorType)
    kernel = prop_def(IntsAttr)
    strides = prop_def(IntsAttr)
    pads = prop_def(IntsAttr)
    dilations = prop_def(IntsAttr)
    sizes = prop_def(ExprsAttr)
    column_major = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)
    indices = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec,
        *,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        sizes: tuple[Expr, ...],
        column_major: bool,
    ) -> tuple[Spec, Spec]:
        """``[N, C, *sizes]`` twice."""
        check_kind("max_pool_indices", ("float", "int", "uint"), x)
        _check_windows(x, kernel, strides, pads, dilations, sizes)
        y = x.with_dims((*x.dims[:2], *sizes))
        return y, y.with_dtype(i64)


def _check_windows(
    x: Spec,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    sizes: tuple[Expr, ...],
) -> None:
    n = len(kernel)
    if x.rank != n + 2:
        raise misfit("pool", ("x", x.dims), fix=f"a window of {n} axes needs rank {n + 2}")
    assert len(strides) == len(dilations) == len(sizes) == n, "one window entry per spatial axis"
    assert len(pads) == 2 * n, "one pad per side of a spatial axis"
    assert min(*kernel, *strides, *dilations, 1) > 0, "window, stride and dilation are positive"

"""Pooling: one value per window, over any number of spatial axes."""

import math
from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, product
from tapeout.ir.numeric import wide, window_taps
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.reduce import identity
from tapeout.ir.scalars import COMBINERS
from tapeout.ir.shapes import check_kind, misfit
from tapeout.ir.types import ExprsAttr, FlagAttr, IntsAttr, Spec, StrAttr, TensorType, spec


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

    @staticmethod
    def reference(
        x: Array,
        *,
        fn: str,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        sizes: tuple[int, ...],
        channels_last: bool,
    ) -> Array:
        """Combine the kernel positions one after the other."""
        combine = "max" if fn == "max" else "sum"
        windows = (kernel, strides, pads, dilations, sizes)
        source = wide(np.moveaxis(x, -1, 1) if channels_last else x)
        fill = identity(combine, source.dtype)
        y = np.full((*source.shape[:2], *sizes), fill, source.dtype)
        for _, window in window_taps(source, fill, *windows):
            y = COMBINERS[combine](y, window)
        if fn == "mean":
            ones = np.ones((1, 1, *source.shape[2:]), source.dtype)
            with np.errstate(invalid="ignore"):
                y = y / sum(window for _, window in window_taps(ones, 0, *windows))
        return (np.moveaxis(y, 1, -1) if channels_last else y).astype(x.dtype)

    @staticmethod
    def cost(
        x: Spec, *, fn: str, kernel: tuple[int, ...], sizes: tuple[Expr, ...], **attrs: object
    ) -> Expr:
        """One flop per element of each window."""
        channels = x.dims[-1] if attrs["channels_last"] else x.dims[1]
        return product((x.dims[0], channels, *sizes, *kernel))

    def decompose(self, builder: Builder) -> Sequence[SSAValue] | None:
        """A mean is a sum over how many elements of ``x`` each window holds."""
        if self.fn.data != "mean":
            return None
        emit, source = Emit(builder), spec(self.x)
        windows = self.attrs() | {"fn": "sum"}
        x = emit.widened(self.x)
        last = self.channels_last.data
        spatial = source.dims[1:-1] if last else source.dims[2:]
        line = (1, *spatial, 1) if last else (1, 1, *spatial)
        counts = emit.op(PoolOp, emit.expand(emit.like(1, x), line), **windows)
        y = emit.map("div", emit.op(PoolOp, x, **windows), counts)
        return [emit.convert(y, source.dtype)]


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

    @staticmethod
    def reference(
        x: Array,
        *,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        dilations: tuple[int, ...],
        sizes: tuple[int, ...],
        column_major: bool,
    ) -> tuple[Array, Array]:
        """Keep the largest so far and its number, kernel position by kernel position."""
        windows = (kernel, strides, pads, dilations, sizes)
        values = wide(x)
        fill = identity("max", values.dtype)
        y = np.full((*x.shape[:2], *sizes), fill, values.dtype)
        where = np.full(y.shape, -1, np.int64)
        numbers = _numbers(x.shape, column_major)
        taps = zip(
            window_taps(values, fill, *windows), window_taps(numbers, -1, *windows), strict=True
        )
        for (_, window), (_, number) in taps:
            # An empty place so far is taken by anything inside, -inf included.
            better = (number >= 0) & (
                (where < 0) | (window > y) | (np.isnan(window) & ~np.isnan(y))
            )
            y, where = np.where(better, window, y), np.where(better, number, where)
        return y.astype(x.dtype), where

    @staticmethod
    def cost(x: Spec, *, kernel: tuple[int, ...], sizes: tuple[Expr, ...], **_: object) -> Expr:
        """One comparison per element of each window."""
        return product((*x.dims[:2], *sizes, *kernel))


def _numbers(shape: tuple[int, ...], column_major: bool) -> Array:
    """The number of each element of a tensor ``[N, C, *S]``."""
    spatial = shape[2:]
    inner = np.arange(math.prod(spatial)).reshape(spatial, order="F" if column_major else "C")
    outer = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *([1] * len(spatial)))
    return outer * inner.size + inner


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

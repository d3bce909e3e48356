"""Writing ``nn`` operators with little text: what decompositions and rewrites are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType, f32, i64
from tapeout.ir.expr import ExprLike, as_expr
from tapeout.ir.numeric import is_narrow
from tapeout.ir.op import NNOp, Operand
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import ConstantOp, DimValuesOp, IotaOp
from tapeout.ir.ops.views import ExpandOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec


class Emit:
    """Inserts operators at a builder's place; every method returns the one result."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def op(self, cls: type[NNOp], *operands: Operand, **attrs: Any) -> SSAValue:
        """Any operator with one result."""
        return self.builder.insert(cls.make(*operands, **attrs)).results[0]

    def map(self, fn: str, *xs: SSAValue) -> SSAValue:
        """A scalar function of tensors."""
        return self.op(MapOp, xs, fn=fn)

    def constant(self, value: Any, dtype: DType) -> SSAValue:
        """A small literal."""
        return self.op(ConstantOp, value=np.asarray(value).astype(dtype.numpy))

    def like(self, value: float, x: SSAValue) -> SSAValue:
        """A rank-0 literal in the element type of ``x``."""
        return self.constant(value, spec(x).dtype)

    def size(self, value: ExprLike, dtype: DType) -> SSAValue:
        """An expression as a rank-0 tensor."""
        expr = as_expr(value)
        if expr.constant is not None:
            return self.constant(expr.constant, dtype)
        return self.convert(self.reshape(self.op(DimValuesOp, values=(expr,)), ()), dtype)

    def convert(self, x: SSAValue, to: DType) -> SSAValue:
        """``x`` in another element type; ``x`` itself when it has it."""
        return x if spec(x).dtype is to else self.op(ConvertOp, x, to=to)

    def widened(self, x: SSAValue) -> SSAValue:
        """``x`` in the type that operators compute it in."""
        return self.convert(x, f32) if is_narrow(spec(x).dtype) else x

    def reshape(self, x: SSAValue, shape: Sequence[ExprLike]) -> SSAValue:
        """The same elements in another shape."""
        dims = tuple(map(as_expr, shape))
        return x if spec(x).dims == dims else self.op(ReshapeOp, x, shape=dims)

    def expand(self, x: SSAValue, shape: Sequence[ExprLike]) -> SSAValue:
        """``x`` repeated to a shape."""
        return self.op(ExpandOp, x, shape=tuple(map(as_expr, shape)))

    def transpose(self, x: SSAValue, perm: Sequence[int]) -> SSAValue:
        """``x`` with its axes permuted."""
        return self.op(TransposeOp, x, perm=tuple(perm))

    def part(self, x: SSAValue, axis: int, start: ExprLike, size: ExprLike) -> SSAValue:
        """``size`` elements of one axis from ``start`` on."""
        dims = list(spec(x).dims)
        starts = [as_expr(0)] * len(dims)
        starts[axis], dims[axis] = as_expr(start), as_expr(size)
        steps = (1,) * len(dims)
        return self.op(SliceOp, x, starts=tuple(starts), sizes=tuple(dims), steps=steps)

    def reduce(self, fn: str, x: SSAValue, axes: Sequence[int]) -> SSAValue:
        """Combine along axes, which stay with size 1."""
        return self.op(ReduceOp, x, fn=fn, axes=tuple(axes), keepdims=True)

    def mean(self, x: SSAValue, axes: Sequence[int]) -> SSAValue:
        """The mean along axes, which stay with size 1."""
        count = as_expr(1)
        for axis in axes:
            count = count * spec(x).dims[axis]
        return self.map("div", self.reduce("sum", x, axes), self.size(count, spec(x).dtype))

    def matmul(self, a: SSAValue, b: SSAValue, *, transpose_b: bool = False) -> SSAValue:
        """The product over the last axis of ``a``."""
        return self.op(MatmulOp, a, b, transpose_b=transpose_b)

    def iota(self, shape: Sequence[ExprLike], axis: int, dtype: DType = i64) -> SSAValue:
        """The index along one axis."""
        return self.op(IotaOp, shape=tuple(map(as_expr, shape)), axis=axis, dtype=dtype)

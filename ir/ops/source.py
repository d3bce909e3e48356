"""Operators without tensor operands, and those that move sizes between types and values."""

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.assumptions import may_equal
from tapeout.ir.dtypes import DTYPES, DType, dtype_of, i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.op import Array, NNOp
from tapeout.ir.types import (
    ArrayAttr,
    DTypeAttr,
    ExprsAttr,
    IntAttr,
    Spec,
    StrAttr,
    TensorType,
)


@irdl_op_definition
class ConstantOp(NNOp):
    """A small literal; anything beyond a few hundred bytes is an ``nn.weight``."""

    name = "nn.constant"
    value = prop_def(ArrayAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(*, value: Array) -> Spec:
        """Shape and type of the literal."""
        return Spec(tuple(map(as_expr, value.shape)), dtype_of(value))

    @staticmethod
    def reference(*, value: Array) -> Array:
        """The literal."""
        return value


@irdl_op_definition
class WeightOp(NNOp):
    """A tensor of the module's weight store, by symbol; the store knows its SHA-256."""

    name = "nn.weight"
    symbol = prop_def(StrAttr)
    shape = prop_def(ExprsAttr)
    dtype = prop_def(StrAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(*, symbol: str, shape: tuple[Expr, ...], dtype: str) -> Spec:
        """The declared shape and type."""
        return Spec(shape, DTYPES[dtype])


@irdl_op_definition
class IotaOp(NNOp):
    """``y[i] = i[axis]``: the index along one axis, in any numeric type."""

    name = "nn.iota"
    shape = prop_def(ExprsAttr)
    axis = prop_def(IntAttr)
    dtype = prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(*, shape: tuple[Expr, ...], axis: int, dtype: DType) -> Spec:
        """The given shape and type."""
        return Spec(shape, dtype)

    @staticmethod
    def reference(*, shape: tuple[int, ...], axis: int, dtype: DType) -> Array:
        """Indices broadcast over the other axes."""
        line = np.arange(shape[axis]).astype(dtype.numpy)
        return np.broadcast_to(
            line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
        )


@irdl_op_definition
class DimValuesOp(NNOp):
    """A vector of sizes as an i64 tensor, where a graph computes with its own shape."""

    name = "nn.dim_values"
    values = prop_def(ExprsAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(*, values: tuple[Expr, ...]) -> Spec:
        """``i64[len(values)]``."""
        return Spec((as_expr(len(values)),), i64)

    @staticmethod
    def reference(*, values: tuple[int, ...]) -> Array:
        """The numbers."""
        return np.array(values, np.int64)


@irdl_op_definition
class BindDimsOp(NNOp):
    """Give symbols their run-time values from an i64 vector: sizes that data decides.

    ``symbols`` are bare symbols, one per element of ``x``; from here on types may use them.
    """

    name = "nn.bind_dims"
    x = operand_def(TensorType)
    symbols = prop_def(ExprsAttr)

    @staticmethod
    def infer(x: Spec, *, symbols: tuple[Expr, ...]) -> tuple[Spec, ...]:
        """No results."""
        assert (x.dtype, x.rank) == (i64, 1), "sizes come as an i64 vector"
        assert may_equal(x.dims[0], len(symbols)), f"{x.dims[0]} sizes for {len(symbols)} symbols"
        return ()

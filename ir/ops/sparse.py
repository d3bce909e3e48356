"""Products with sparse matrices: what is zero is neither stored nor multiplied."""

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.dtypes import i32
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, as_expr, ceildiv
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.contract import MatmulOp, product_type
from tapeout.ir.shapes import check_dims, check_rank, shape_text
from tapeout.ir.types import IntAttr, Spec, TensorType


@irdl_op_definition
class BlockSparseMatmulOp(NNOp):
    """``y[..., m, n] = sum_k a[..., m, k] * w[n, k]``, ``w`` held as blocks that are not zero.

    A block is ``r`` outputs by one input. Stripe ``s``, of the outputs ``s * r`` on, has the
    blocks ``starts[s]`` to ``starts[s + 1]``: block ``b`` is the column ``columns[b]`` of its
    stripe, and ``values[b]`` the weights. Columns of one stripe may repeat: their weights add up.

    Shapes: ``a`` ``[..., M, K]``, ``starts`` i32 ``[ceil(N / r) + 1]``, ``columns`` i32 ``[B]``,
    ``values`` ``[B, r]``, ``y`` ``[..., M, N]`` with ``N = outputs``. ``group``: the blocks of a
    stripe start at, and are, a multiple of it. Types as in :class:`MatmulOp`; bytes give exact
    sums in i32, which wrap. Places that are outside are held inside.
    Cost: ``2 * M * B * r``. Errors: E0203, E0207.
    Source: the kernel of arXiv:2306.16601, where ``r`` is 4.
    """

    name = "nn.block_sparse_matmul"
    a = operand_def(TensorType)
    starts = operand_def(TensorType)
    columns = operand_def(TensorType)
    values = operand_def(TensorType)
    outputs = prop_def(IntAttr)
    group = prop_def(IntAttr, IntAttr(1))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        a: Spec, starts: Spec, columns: Spec, values: Spec, *, outputs: int, group: int
    ) -> Spec:
        """``[..., M, outputs]``."""
        op = "block_sparse_matmul"
        dtype = product_type(op, a, values, None)
        for name, places in (("starts", starts), ("columns", columns)):
            check_rank(op, name, places, 1)
            if places.dtype is not i32:
                raise CompileError("E0203", f"{op}: {name} are i32", [(name, places.dtype)])
        check_rank(op, "values", values, 2)
        check_dims(op, "values", values.dims[:1], columns.dims)
        stripes = ceildiv(as_expr(outputs), values.dims[1])
        if a.rank < 2 or group < 1 or starts.dims[0] != stripes + 1:
            raise CompileError(
                "E0207",
                f"{op}: the stripes do not make {outputs} outputs",
                [("starts", shape_text(starts.dims)), ("values", shape_text(values.dims))],
            )
        return Spec((*a.dims[:-1], as_expr(outputs)), dtype)

    @staticmethod
    def reference(
        a: Array, starts: Array, columns: Array, values: Array, *, outputs: int, group: int
    ) -> Array:
        """The product with the dense matrix."""
        dense = decoded(starts, columns, values, outputs, a.shape[-1])
        return MatmulOp.reference(a, dense, transpose_b=True)

    @staticmethod
    def cost(
        a: Spec, starts: Spec, columns: Spec, values: Spec, *, outputs: int, group: int
    ) -> Expr:
        """A multiply and an add for each weight that is stored, and each row."""
        return a.with_dims(a.dims[:-1]).size * values.size * 2


def decoded(starts: Array, columns: Array, values: Array, outputs: int, inputs: int) -> Array:
    """The dense matrix ``[outputs, inputs]`` of blocks, in the type of their values."""
    stripes, rows = len(starts) - 1, values.shape[1]
    dense = np.zeros((stripes, inputs, rows), values.dtype)
    places = np.clip(columns, 0, max(inputs - 1, 0))
    bounds = np.clip(starts, 0, len(columns))
    for stripe in range(stripes if inputs else 0):
        mine = slice(bounds[stripe], bounds[stripe + 1])
        np.add.at(dense[stripe], places[mine], values[mine])
    matrix = dense.transpose(0, 2, 1).reshape(stripes * rows, inputs)
    return np.ascontiguousarray(matrix[:outputs])

"""Linear algebra on the last two axes."""

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, result_def

from tapeout.ir.assumptions import may_equal
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import check_float, misfit
from tapeout.ir.types import Spec, TensorType


@irdl_op_definition
class DetOp(NNOp):
    """The determinant of each matrix ``[..., n, n]``. Errors: E0209, E0210."""

    name = "nn.det"
    x = operand_def(TensorType)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec) -> Spec:
        """The leading axes."""
        check_float("det", x)
        if x.rank < 2 or not may_equal(x.dims[-1], x.dims[-2]):
            raise misfit("det", ("x", x.dims), fix="the last two sizes are equal")
        return x.with_dims(x.dims[:-2])

    @staticmethod
    def reference(x: Array) -> Array:
        """Numpy's determinant, by LU factorisation."""
        return np.asarray(np.linalg.det(wide(x))).astype(x.dtype)

    @staticmethod
    def cost(x: Spec) -> Expr:
        """``2/3 * n^3`` per matrix."""
        return x.size * x.dims[-1] * 2 // 3

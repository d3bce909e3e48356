"""Products: MatMul and Gemm."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.ops.contract import MatmulOp


@rule("MatMul")
def matmul(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """Numpy's matmul: a vector is a matrix of one row or column, whose axis goes again."""
    left = b.reshape(x, [1, *x.dims]) if x.rank == 1 else x
    right = b.reshape(y, [*y.dims, 1]) if y.rank == 1 else y
    made = b.make(MatmulOp, left, right)
    dims = list(made.dims)
    if y.rank == 1:
        del dims[-1]
    if x.rank == 1:
        del dims[-1 if y.rank == 1 else -2]
    return b.reshape(made, dims)

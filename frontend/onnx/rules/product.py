"""Products: MatMul and Gemm."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.ops.contract import MatmulOp


@rule("MatMul")
def matmul(b: Builder, node: Call, x: Value, y: Value) -> Value:
    """Numpy's matmul: a vector is a matrix of one row or column, whose axis goes again."""
    if x.rank == 0 or y.rank == 0:
        node.invalid("an operand is a scalar", ("ranks", f"{x.rank} and {y.rank}"))
    left = b.reshape(x, [1, *x.dims]) if x.rank == 1 else x
    right = b.reshape(y, [*y.dims, 1]) if y.rank == 1 else y
    made = b.make(MatmulOp, left, right)
    dims = list(made.dims)
    if y.rank == 1:
        del dims[-1]
    if x.rank == 1:
        del dims[-1 if y.rank == 1 else -2]
    return b.reshape(made, dims)


@rule("Gemm")
def gemm(b: Builder, node: Call, x: Value, y: Value, c: Value | None = None) -> Value:
    """``alpha * x @ y + beta * c``, with either matrix transposed."""
    if x.rank != 2 or y.rank != 2:
        node.invalid("an operand is no matrix", ("ranks", f"{x.rank} and {y.rank}"))
    left = b.transpose(x, (1, 0)) if node.flag("transA") else x
    made = b.make(MatmulOp, left, y, transpose_b=node.flag("transB"))
    made = _scaled(b, made, node.real("alpha", 1.0))
    return made if c is None else b.map("add", made, _scaled(b, c, node.real("beta", 1.0)))


def _scaled(b: Builder, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else b.map("mul", x, factor)

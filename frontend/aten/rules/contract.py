"""Products of matrices, convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder, each
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.types import spec


@rule("aten.linear")
def linear(
    b: Builder, call: Call, x: SSAValue, w: SSAValue, bias: SSAValue | None = None
) -> SSAValue:
    """``x @ w^T + bias``."""
    rows = b.reshape(x, (1, *spec(x).dims)) if spec(x).rank == 1 else x
    y = b.matmul(rows, w, transpose_b=True)
    y = y if bias is None else b.map("add", y, bias)
    return b.reshape(y, call.output.dims)


@rule("aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot")
def matmul(b: Builder, call: Call, x: SSAValue, y: SSAValue) -> SSAValue:
    """The product over the last axis of ``x``; vectors are rows and columns."""
    left = b.reshape(x, (1, *spec(x).dims)) if spec(x).rank == 1 else x
    right = b.reshape(y, (*spec(y).dims, 1)) if spec(y).rank == 1 else y
    return b.reshape(_product(b, left, right), call.output.dims)


def _product(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """A matrix product; that of integers is written out, for ``nn.matmul`` is one of floats."""
    if spec(x).dtype.is_float:
        return b.matmul(x, y)
    *batch, rows, depth = spec(x).dims
    columns = b.reshape(x, (*batch, rows, depth, 1))
    matrices = b.reshape(y, (*spec(y).dims[:-2], 1, *spec(y).dims[-2:]))
    return b.op(ReduceOp, b.map("mul", columns, matrices), fn="sum", axes=(-2,))


@rule("aten._grouped_mm", "transformers.grouped_mm_fallback")
def grouped(
    b: Builder, call: Call, x: SSAValue, matrices: SSAValue, ends: SSAValue | None = None
) -> SSAValue:
    """Rows ``x [S, K]`` times the matrix of their group, ``[G, K, N]``; groups end at ``ends``."""
    if ends is None or (spec(x).rank, spec(matrices).rank) != (2, 3):
        call.refuse("groups have support along the rows only", ("x", spec(x).dims))
    rows, depth = spec(x).dims
    line = b.iota((rows, 1), 0)
    behind = b.convert(b.map("le", b.convert(ends, i64), line), i64)
    group = b.op(ReduceOp, behind, fn="sum", axes=(1,))
    last = b.size(spec(matrices).dims[0] - 1, i64)
    own = b.op(GatherOp, matrices, b.map("min", group, last), axis=0)
    y = b.reshape(b.matmul(b.reshape(x, (rows, 1, depth)), own), call.output.dims)
    inside = b.reshape(b.map("le", group, last), (rows, 1))
    return b.map("where", inside, y, b.like(0, y))


@rule("aten.addmm", "aten.baddbmm", "aten.addmv")
def add_product(
    b: Builder,
    call: Call,
    c: SSAValue,
    x: SSAValue,
    y: SSAValue,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> SSAValue:
    """``beta * c + alpha * (x @ y)``."""
    product = matmul(b, call, x, y)
    if alpha != 1:
        product = b.map("mul", product, b.like(alpha, product))
    if beta == 0:
        return product
    return b.map("add", product, c if beta == 1 else b.map("mul", c, b.like(beta, c)))


@rule("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(
    b: Builder,
    call: Call,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> SSAValue:
    """Cross-correlation; ``padding`` may be ``same`` or ``valid``."""
    n = spec(w).rank - 2
    dilation, low, high = each(dilation, n), each(0, n), each(0, n)
    if isinstance(padding, str):
        if padding == "same":
            reach = [d * (_fixed(call, k) - 1) for d, k in zip(dilation, _kernel(w), strict=True)]
            low, high = tuple(r // 2 for r in reach), tuple(r - r // 2 for r in reach)
    else:
        low = high = each(padding, n)
    batched = spec(x).rank == n + 2
    y = b.op(
        ConvOp,
        x if batched else b.reshape(x, (1, *spec(x).dims)),
        w,
        bias,
        strides=each(stride, n),
        pads=(*low, *high),
        dilations=dilation,
        groups=groups,
    )
    return b.reshape(y, call.output.dims)


@rule("aten.convolution")
def convolution(
    b: Builder,
    call: Call,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> SSAValue:
    """A convolution, or its gradient where ``transposed``."""
    if not transposed:
        return conv(b, call, x, w, bias, stride, padding, dilation, groups)
    n = spec(w).rank - 2
    pads = each(padding, n)
    batched = spec(x).rank == n + 2
    y = b.op(
        ConvTransposeOp,
        x if batched else b.reshape(x, (1, *spec(x).dims)),
        w,
        bias,
        strides=each(stride, n),
        pads=(*pads, *pads),
        dilations=each(dilation, n),
        output_padding=each(output_padding, n),
        groups=groups,
    )
    return b.reshape(y, call.output.dims)


def _kernel(w: SSAValue) -> Sequence[Any]:
    return spec(w).dims[2:]


def _fixed(call: Call, size: Any) -> int:
    value = as_expr(size).constant
    if value is None:
        call.refuse("the size of a kernel must be a number", ("size", size))
    return value

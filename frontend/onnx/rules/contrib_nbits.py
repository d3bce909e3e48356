"""MatMulNBits: products with weights of few bits, a scale for each block of inputs."""

from typing import Any

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.contrib import DOMAIN
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import DType, i2, i4, i8, u2, u4, u8
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.quantized import DequantizeOp

Array = np.ndarray[Any, Any]

UNSIGNED = {2: u2, 4: u4, 8: u8}
SIGNED = {2: i2, 4: i4, 8: i8}


@rule("MatMulNBits", domain=DOMAIN)
def matmul_nbits(
    b: Builder,
    node: Call,
    x: Value,
    codes: Value,
    scales: Value,
    zeros: Value | None = None,
    groups: Value | None = None,
    bias: Value | None = None,
) -> Value:
    """``x [*, K] @ w.T + bias`` with ``w [N, K]`` of 2, 4 or 8 bits.

    ``codes`` are bytes ``[N, blocks, bytes of a block]``, the first code in the lowest bits;
    ``scales [N, blocks]``; ``zeros`` as ``codes``, or one number for each block in the type of
    ``x``. Without them a code stands for itself less half of its range: signed codes.
    """
    bits, block = node.integer("bits", 4), node.integer("block_size")
    k, n = node.integer("K"), node.integer("N")
    if bits not in UNSIGNED:
        node.refuse("weights of this many bits", ("bits", bits), ("known", "2, 4, 8"))
    if min(k, n) < 1 or block < 1:
        node.invalid("sizes are not positive", ("K", k), ("N", n), ("block_size", block))
    if groups is not None:
        fix = "quantise without reordering (act_order, desc_act)"
        node.refuse("inputs that are put into groups by an index (g_idx)", fix=fix)
    blocks = -(-k // block)
    whole = _unpacked(b, node, codes, "the weights", n, blocks * block, bits)[:, :k]
    points = _points(b, node, zeros, n, blocks, bits)
    of: DType = UNSIGNED[bits]
    if points is None:
        whole, of = whole.astype(np.int16) - (1 << bits - 1), SIGNED[bits]
    given = b.array(node, scales, "the scales")
    if given.size != n * blocks:
        node.invalid("the scales do not fit", ("expected", n * blocks), ("given", given.size))
    w = b.make(
        DequantizeOp,
        b.constant(whole.astype(of.numpy)),
        b.constant(given.reshape(n, blocks)),
        None if points is None else b.constant(points.astype(of.numpy)),
        axis=1,
        block=block,
        to=x.dtype,
    )
    y = b.make(MatmulOp, x, w, transpose_b=True)
    return y if bias is None else b.map("add", y, bias)


def _points(
    b: Builder, node: Call, zeros: Value | None, n: int, blocks: int, bits: int
) -> Array | None:
    """Zero points ``[N, blocks]``; None where all are the middle of the range."""
    if zeros is None:
        return None
    if zeros.dtype is u8:
        points = _unpacked(b, node, zeros, "the zero points", n, blocks, bits)
    else:
        given = b.array(node, zeros, "the zero points").astype(np.float64)
        if given.size != n * blocks:
            node.invalid("the zero points do not fit", ("expected", n * blocks))
        points = given.reshape(n, blocks)
        if not np.isin(points, np.arange(1 << bits)).all():
            node.refuse("zero points that are no codes", fix="quantise with whole zero points")
    return None if (points == 1 << bits - 1).all() else points


def _unpacked(
    b: Builder, node: Call, packed: Value, what: str, rows: int, columns: int, bits: int
) -> Array:
    """Codes ``[rows, columns]`` from bytes that fill each row up."""
    array = b.array(node, packed, what)
    size = -(-columns * bits // 8)
    if array.dtype != np.uint8 or array.size != rows * size:
        node.invalid(f"{what} do not fit", ("bytes expected", rows * size), ("given", array.size))
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = array.reshape(rows, size, 1) >> shifts & ((1 << bits) - 1)
    return codes.reshape(rows, -1)[:, :columns]

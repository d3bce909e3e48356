"""Quantised tensors, as exact integer products and elementwise maps around them.

Nothing here is approximate: integer products are formed in i32, and scaling rounds half to even
before it saturates, as ONNX says. Targets recognise the pattern and use their integer units.
"""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.element_types import element_type
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import per_channel, wide_type
from tapeout.frontend.onnx.rules.product import matmul
from tapeout.frontend.onnx.rules.scales import check_scale
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import DTYPES, DType, f32, i32, u8
from tapeout.ir.expr import Expr, ceildiv
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.shapes import check_axis, never_equal


@rule("QuantizeLinear")
def quantize_linear(
    b: Builder, node: Call, x: Value, scale: Value, zero: Value | None = None
) -> Value:
    """``saturate(round(x / scale) + zero)``; scales of one tensor, an axis, or blocks of one."""
    check_scale(node, "y_scale", scale, positive=True)
    to = zero.dtype if zero is not None else named_type(node, "output_dtype", u8)
    between = named_type(node, "precision", _wider(x.dtype, scale.dtype))
    scale = _along(b, node, scale, x)
    ratio = b.map("div", b.convert(x, between), b.convert(scale, between))
    wide = b.convert(ratio, wide_type(ratio.dtype))
    if not to.is_integer:
        return b.convert(wide, to, saturate=node.flag("saturate", True) or to.bits < 8)
    shifted = b.map("round", wide)
    if zero is not None:
        shifted = b.map("add", shifted, b.convert(_along(b, node, zero, x), wide.dtype))
    return b.convert(shifted, to, saturate=True)


@rule("DequantizeLinear")
def dequantize_linear(
    b: Builder, node: Call, x: Value, scale: Value, zero: Value | None = None
) -> Value:
    """``(x - zero) * scale``."""
    check_scale(node, "x_scale", scale)
    to = named_type(node, "output_dtype", scale.dtype)
    if x.dtype.is_integer and x.dtype.bits <= 32:
        fitted = _fitted(b, node, scale, x)
        points = None if zero is None else _fitted(b, node, zero, x)
        axis, block = _blocks(node, fitted, x)
        return b.make(DequantizeOp, x, fitted, points, axis=axis, block=block, to=to)
    return b.convert(b.map("mul", b.convert(x, f32), b.convert(_along(b, node, scale, x), f32)), to)


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(b: Builder, node: Call, x: Value) -> tuple[Value, Value, Value]:
    """``x`` as u8, its scale and its zero point, from the range of ``x`` with 0 in it."""
    axes = range(x.rank)
    high = b.map("max", b.reduce("max", x, axes), 0)
    low = b.map("min", b.reduce("min", x, axes), 0)
    scale = b.map("div", b.map("sub", high, low), 255)
    # A tensor of zeros has no range; any scale but zero gives its zeros back.
    scale = b.map("where", b.map("eq", scale, 0), b.scalar(1, x.dtype), scale)
    exact = b.map("round", b.map("neg", b.map("div", low, scale)))
    zero = b.convert(exact, u8, saturate=True)
    shifted = b.map("add", b.map("round", b.map("div", x, scale)), b.convert(zero, x.dtype))
    return b.convert(shifted, u8, saturate=True), scale, zero


@rule("MatMulInteger")
def matmul_integer(
    b: Builder,
    node: Call,
    x: Value,
    y: Value,
    x_zero: Value | None = None,
    y_zero: Value | None = None,
) -> Value:
    """The product of 8-bit integers less their zero points, exact in i32."""
    return matmul(b, node, _rows(b, x, x_zero), _columns(b, y, y_zero))


@rule("QLinearMatMul")
def qlinear_matmul(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    y: Value,
    y_scale: Value,
    y_zero: Value,
    out_scale: Value,
    out_zero: Value,
) -> Value:
    """An i32 product, scaled and rounded to the 8-bit type of ``out_zero``."""
    check_scale(node, "a_scale", x_scale)
    check_scale(node, "b_scale", y_scale)
    check_scale(node, "y_scale", out_scale, positive=True)
    total = matmul(b, node, _rows(b, x, x_zero), _columns(b, y, y_zero))
    left = _beside_rows(b, b.convert(x_scale, f32), x.rank)
    both = b.map("mul", left, _single(b, b.convert(y_scale, f32)))
    out = _single(b, b.convert(out_scale, f32))
    return requantized(b, total, b.map("div", both, out), out_zero)


def centred(b: Builder, x: Value, zero: Value | None, axis: int | None) -> Value:
    """``x - zero`` in i32; a vector of zero points lies along ``axis``."""
    wide = b.convert(x, i32)
    if zero is None:
        return wide
    point = _single(b, b.convert(zero, i32))
    if point.rank == 1 and axis is not None:
        point = per_channel(b, point, x.rank, axis)
    return b.map("sub", wide, point)


def requantized(b: Builder, total: Value, scale: Value, zero: Value) -> Value:
    """``saturate(round(total * scale) + zero)`` in the type of ``zero``."""
    scaled = b.map("round", b.map("mul", b.convert(total, f32), b.convert(scale, f32)))
    shifted = b.map("add", scaled, b.convert(_single(b, zero), f32))
    return b.convert(shifted, zero.dtype, saturate=True)


def _rows(b: Builder, x: Value, zero: Value | None) -> Value:
    """``x`` less a zero point for all, or one for each of its rows."""
    wide = b.convert(x, i32)
    if zero is None:
        return wide
    return b.map("sub", wide, _beside_rows(b, b.convert(zero, i32), x.rank))


def _beside_rows(b: Builder, x: Value, rank: int) -> Value:
    x = _single(b, x)
    return b.reshape(x, [x.dims[0], 1]) if x.rank == 1 and rank > 1 else x


def _columns(b: Builder, x: Value, zero: Value | None) -> Value:
    """``x`` less a zero point for all, or one for each of its columns."""
    wide = b.convert(x, i32)
    return wide if zero is None else b.map("sub", wide, _single(b, b.convert(zero, i32)))


def _single(b: Builder, x: Value) -> Value:
    """A vector of one element as a scalar."""
    return b.reshape(x, ()) if x.rank == 1 and x.dims[0] == 1 else x


def _along(b: Builder, node: Call, parameter: Value, x: Value) -> Value:
    """A scale or zero point so that it broadcasts with ``x``: per tensor, axis or block."""
    parameter = _fitted(b, node, parameter, x)
    axis, block = _blocks(node, parameter, x)
    if not block:
        return parameter
    dims = parameter.dims
    split: list[Expr | int] = [*dims[: axis + 1], 1, *dims[axis + 1 :]]
    wide: list[Expr | int] = [*dims[: axis + 1], block, *dims[axis + 1 :]]
    repeated = b.expand(b.reshape(parameter, split), wide)
    joined = [*dims[:axis], dims[axis] * block, *dims[axis + 1 :]]
    return b.slice_axis(b.reshape(repeated, joined), axis, 0, x.dims[axis])


def _blocks(node: Call, parameter: Value, x: Value) -> tuple[int, int]:
    """The axis of scales, and how many neighbours along it share one; 0 and 0 for one scale."""
    block = node.integer("block_size")
    if block < 0:
        node.invalid("attribute 'block_size' is negative", ("block_size", block))
    if parameter.rank == 0:
        return 0, 0
    return check_axis(node.integer("axis", 1), x.rank, node.node.op_type), block


def _fitted(b: Builder, node: Call, parameter: Value, x: Value) -> Value:
    """A scale or zero point that was checked: rank 0, or beside its axis, or one per block."""
    parameter = _single(b, parameter)
    axis, block = _blocks(node, parameter, x)
    if parameter.rank == 0:
        return parameter
    if block:
        want = [ceildiv(d, block) if i == axis else d for i, d in enumerate(x.dims)]
        if parameter.rank != x.rank or any(map(never_equal, parameter.dims, want)):
            node.invalid(
                "the scale or zero point does not fit the blocks",
                ("block_size", block),
                ("expected", ", ".join(map(str, want))),
                ("parameter", ", ".join(map(str, parameter.dims))),
            )
        return parameter
    if parameter.rank != 1 or never_equal(parameter.dims[0], x.dims[axis]):
        node.invalid(
            "the scale or zero point does not fit the axis",
            ("axis", axis),
            ("input", ", ".join(map(str, x.dims))),
            ("parameter", ", ".join(map(str, parameter.dims))),
        )
    return per_channel(b, parameter, x.rank, axis)


def named_type(node: Call, name: str, default: DType) -> DType:
    """The element type that an attribute names by ONNX's number, 0 or absent for ``default``."""
    code = node.integer(name)
    if not code:
        return default
    dtype = element_type(code, f"attribute {name!r} of {node.node.label}").dtype
    found = next((t for t in DTYPES.values() if t.numpy == dtype), None)
    if found is None:
        node.refuse(f"element type {dtype} in attribute {name!r}")
    return found


def _wider(a: DType, c: DType) -> DType:
    """The type in which ``a / c`` is formed; integers are divided as the scale's type."""
    if not a.is_float:
        return c
    return a if a.bits >= c.bits else c

"""Operators on bytes of ONNX Runtime's own domain: its tool writes them beside QLinearConv.

They compute the float operator of what the codes stand for, and round the result. Inputs come as
codes, scale and zero point; a zero point may be left out for 0. One scale stands for a tensor,
but for the columns of QGemm's weights. Passes look through ``nn.dequantize`` at the codes.
"""

from collections.abc import Callable, Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.activation import leaky_relu
from tapeout.frontend.onnx.rules.compose import mean, per_channel
from tapeout.frontend.onnx.rules.contrib import DOMAIN
from tapeout.frontend.onnx.rules.conv_integer import qlinear_conv
from tapeout.frontend.onnx.rules.pool import average_pool, global_average_pool
from tapeout.frontend.onnx.rules.quantize import dynamic_quantize_linear, quantized, single
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean, f32
from tapeout.ir.expr import product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.shapes import check_axis


def numbers(b: Builder, x: Value, scale: Value, zero: Value | None) -> Value:
    """What the codes of a tensor stand for."""
    point = None if zero is None else single(b, zero)
    return b.make(DequantizeOp, x, single(b, scale), point, to=f32)


@rule("QLinearAdd", "QLinearMul", domain=DOMAIN)
def qlinear_map(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value | None,
    y: Value,
    y_scale: Value,
    y_zero: Value | None,
    scale: Value,
    zero: Value | None = None,
) -> Value:
    """``x + y`` or ``x * y``."""
    fn = node.node.op_type.removeprefix("QLinear").lower()
    made = b.map(fn, numbers(b, x, x_scale, x_zero), numbers(b, y, y_scale, y_zero))
    return quantized(b, made, scale, zero, x.dtype)


@rule("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearReduceMean", domain=DOMAIN)
@rule("QLinearAveragePool", "QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_of_one(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value | None,
    scale: Value,
    zero: Value | None = None,
) -> Value:
    """A function of one tensor; pools may have their channels last."""
    inner = OF_ONE[node.node.op_type]
    real = numbers(b, x, x_scale, x_zero)
    if node.flag("channels_last"):
        made = channels_last(b, inner(b, node, channels_first(b, real)))
    else:
        made = inner(b, node, real)
    return quantized(b, made, scale, zero, x.dtype)


def _sigmoid(b: Builder, node: Call, x: Value) -> Value:
    return b.map("sigmoid", x)


def _softmax(b: Builder, node: Call, x: Value) -> Value:
    """Along ``axis``; as of operator sets below 13, over all axes from it on."""
    axis = check_axis(node.integer("axis", -1), x.rank, node.node.op_type)
    if node.integer("opset") >= 13:
        return b.make(SoftmaxOp, x, axis=axis)
    lines = b.reshape(x, [*x.dims[:axis], product(x.dims[axis:])])
    return b.reshape(b.make(SoftmaxOp, lines, axis=-1), x.dims)


def _mean(b: Builder, node: Call, x: Value) -> Value:
    given = [check_axis(a, x.rank, node.node.op_type) for a in node.integers("axes")]
    axes = given or list(range(x.rank))
    made = mean(b, x, axes)
    if node.flag("keepdims", True):
        return made
    return b.reshape(made, [d for i, d in enumerate(x.dims) if i not in axes])


OF_ONE: Mapping[str, Callable[[Builder, Call, Value], Value]] = {
    "QLinearSigmoid": _sigmoid,
    "QLinearLeakyRelu": leaky_relu,
    "QLinearSoftmax": _softmax,
    "QLinearReduceMean": _mean,
    "QLinearAveragePool": average_pool,
    "QLinearGlobalAveragePool": global_average_pool,
}


@rule("QLinearConcat", domain=DOMAIN)
def qlinear_concat(
    b: Builder, node: Call, scale: Value, zero: Value, *parts: Value | None
) -> Value:
    """Tensors one after the other, each given as codes, scale and zero point."""
    if not parts or len(parts) % 3:
        node.invalid("tensors come as codes, scale and zero point", ("inputs", len(parts) + 2))
    found: list[Value] = []
    for x, x_scale, x_zero in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if x is None or x_scale is None:
            node.invalid("codes or their scale are left out", ("tensor", len(found)))
        found.append(numbers(b, x, x_scale, x_zero))
    axis = check_axis(node.integer("axis"), found[0].rank, "QLinearConcat")
    return quantized(b, b.concat(found, axis), scale, zero, zero.dtype)


@rule("QLinearWhere", domain=DOMAIN)
def qlinear_where(
    b: Builder,
    node: Call,
    condition: Value,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    y: Value,
    y_scale: Value,
    y_zero: Value,
    scale: Value,
    zero: Value,
) -> Value:
    """``x`` where the condition holds, else ``y``."""
    left, right = numbers(b, x, x_scale, x_zero), numbers(b, y, y_scale, y_zero)
    made = b.map("where", b.convert(condition, boolean), left, right)
    return quantized(b, made, scale, zero, x.dtype)


@rule("QLinearConv", domain=DOMAIN)
def qlinear_conv_of_either_layout(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    scale: Value,
    zero: Value,
    bias: Value | None = None,
) -> Value:
    """ONNX's operator, whose input and result may have their channels last."""
    others = x_scale, x_zero, w, w_scale, w_zero, scale, zero, bias
    if not node.flag("channels_last"):
        return qlinear_conv(b, node, x, *others)
    return channels_last(b, qlinear_conv(b, node, channels_first(b, x), *others))


def channels_first(b: Builder, x: Value) -> Value:
    """``[N, *S, C]`` as ``[N, C, *S]``."""
    return b.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1)))


def channels_last(b: Builder, x: Value) -> Value:
    """``[N, C, *S]`` as ``[N, *S, C]``."""
    return b.transpose(x, (0, *range(2, x.rank), 1))


@rule("QGemm", domain=DOMAIN)
def qgemm(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    bias: Value | None = None,
    scale: Value | None = None,
    zero: Value | None = None,
) -> Value:
    """``alpha * x @ w + bias``; in f32 where no scale of the result is given.

    ``bias`` is i32 in units of ``alpha * x_scale * w_scale``.
    """
    transposed = node.flag("transB")
    units = b.map("mul", single(b, x_scale), single(b, w_scale))
    units = b.map("mul", units, node.real("alpha", 1.0))
    left = numbers(b, x, x_scale, x_zero)
    left = b.transpose(left, (1, 0)) if node.flag("transA") else left
    right = _columns(b, w, w_scale, w_zero, 0 if transposed else 1)
    y = b.make(MatmulOp, left, right, transpose_b=transposed)
    if node.real("alpha", 1.0) != 1.0:
        y = b.map("mul", y, node.real("alpha", 1.0))
    if bias is not None:
        y = b.map("add", y, b.map("mul", b.convert(bias, f32), units))
    return (
        y
        if scale is None
        else quantized(b, y, scale, zero, x.dtype if zero is None else zero.dtype)
    )


@rule("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    x_scale: Value,
    w_scale: Value,
    x_zero: Value | None = None,
    w_zero: Value | None = None,
    bias: Value | None = None,
) -> Value:
    """The product of what two tensors of codes stand for, plus ``bias``, in f32."""
    right = _columns(b, w, w_scale, w_zero, w.rank - 1)
    y = b.make(MatmulOp, numbers(b, x, x_scale, x_zero), right)
    return y if bias is None else b.map("add", y, bias)


@rule("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value | None = None,
    bias: Value | None = None,
) -> Value:
    """The same of ``x``, rounded to bytes as DynamicQuantizeLinear does."""
    codes, scale, zero = dynamic_quantize_linear(b, node, x)
    return matmul_integer_to_float(b, node, codes, w, scale, w_scale, zero, w_zero, bias)


def _columns(b: Builder, w: Value, scale: Value, zero: Value | None, axis: int) -> Value:
    """Weights from their codes, with one scale and zero point or one for each output."""

    def fitted(parameter: Value) -> Value:
        one = single(b, parameter)
        return one if one.rank == 0 else per_channel(b, one, w.rank, axis)

    return b.make(DequantizeOp, w, fitted(scale), None if zero is None else fitted(zero), to=f32)

"""Normalisations: batch, instance, group, layer, root mean square, and softmax."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import log_softmax, mean, per_channel, widened
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import ExprLike, product
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.shapes import check_axis


@rule("BatchNormalization")
def batch_normalization(
    b: Builder, node: Call, x: Value, scale: Value, bias: Value, mean_in: Value, var_in: Value
) -> Value | tuple[Value, ...]:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` per channel.

    In training mode mean and variance are the batch's, and the running ones move towards them.
    """
    if node.version < 9 and not node.flag("spatial", True):
        node.refuse("normalisation per position (spatial = 0)", fix="export with opset 9 or later")
    if node.version < 7 and not node.flag("is_test"):
        node.refuse("training mode of opset 6", fix="export the model for inference")
    training = node.flag("training_mode")
    if not training and any(map(node.wants, range(1, 5))):
        node.refuse("outputs of training up to opset 13", fix="export the model for inference")
    wide = widened(b, x)
    scale, bias, mean_in, var_in = (widened(b, p) for p in (scale, bias, mean_in, var_in))
    if not training:
        y = _affine(b, wide, scale, bias, mean_in, var_in, node.real("epsilon", 1e-5))
        return b.convert(y, x.dtype)
    axes = [a for a in range(x.rank) if a != 1]
    centre = mean(b, wide, axes)
    offset = b.map("sub", wide, centre)
    spread = mean(b, b.map("mul", offset, offset), axes)
    now, var = (b.reshape(v, [x.dims[1]]) for v in (centre, spread))
    y = _affine(b, wide, scale, bias, now, var, node.real("epsilon", 1e-5))
    keep = node.real("momentum", 0.9)
    running = (_moved(b, mean_in, now, keep), _moved(b, var_in, var, keep))
    return (b.convert(y, x.dtype), *running)


def _affine(
    b: Builder, x: Value, scale: Value, bias: Value, centre: Value, var: Value, epsilon: float
) -> Value:
    """One product and one sum per element: what belongs to a channel is formed beforehand."""
    factor = b.map("div", scale, b.map("sqrt", b.map("add", var, epsilon)))
    shift = b.map("sub", bias, b.map("mul", centre, factor))
    scaled = b.map("mul", x, per_channel(b, b.convert(factor, x.dtype), x.rank))
    return b.map("add", scaled, per_channel(b, b.convert(shift, x.dtype), x.rank))


def _moved(b: Builder, before: Value, now: Value, keep: float) -> Value:
    now = b.convert(now, before.dtype)
    return b.map("add", b.map("mul", before, keep), b.map("mul", now, 1 - keep))


@rule("InstanceNormalization")
def instance_normalization(b: Builder, node: Call, x: Value, scale: Value, bias: Value) -> Value:
    """Each channel of each sample to mean 0 and variance 1, then scaled and shifted."""
    if x.rank < 3:
        node.invalid("the input needs spatial axes", ("rank", x.rank))
    normal = b.make(LayerNormOp, x, None, None, axis=2, epsilon=node.real("epsilon", 1e-5))
    scaled = b.map("mul", normal, per_channel(b, scale, x.rank))
    return b.map("add", scaled, per_channel(b, bias, x.rank))


@rule("GroupNormalization", since=18)
def group_normalization(b: Builder, node: Call, x: Value, scale: Value, bias: Value) -> Value:
    """Each group of channels to mean 0 and variance 1, then scaled and shifted.

    Scale and bias are one per group up to opset 20, one per channel since.
    """
    groups = node.integer("num_groups")
    if groups < 1 or x.rank < 3:
        node.invalid("groups or rank out of range", ("num_groups", groups), ("rank", x.rank))
    rows = b.reshape(x, [x.dims[0], groups, product(x.dims[1:]) // groups])
    normal = b.make(LayerNormOp, rows, None, None, axis=2, epsilon=node.real("epsilon", 1e-5))
    dims: list[ExprLike] = list(x.dims)
    if node.version < 21:
        dims = [x.dims[0], groups, product(x.dims[1:]) // groups]
    scaled = b.map("mul", b.reshape(normal, dims), per_channel(b, scale, len(dims)))
    shifted = b.map("add", scaled, per_channel(b, bias, len(dims)))
    return b.reshape(shifted, x.dims)


@rule("LayerNormalization")
def layer_normalization(
    b: Builder, node: Call, x: Value, scale: Value, bias: Value | None = None
) -> tuple[Value, ...]:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` over the axes from ``axis`` on.

    The further outputs are the mean and ``1 / sqrt(var + epsilon)``.
    """
    axis = check_axis(node.integer("axis", -1), x.rank, "LayerNormalization")
    epsilon = node.real("epsilon", 1e-5)
    y = b.make(LayerNormOp, x, scale, bias, axis=axis, epsilon=epsilon)
    if not (node.wants(1) or node.wants(2)):
        return (y,)
    return (y, *moments(b, x, axis, epsilon))


def moments(b: Builder, x: Value, axis: int, epsilon: float) -> tuple[Value, Value]:
    """Mean and ``1 / sqrt(var + epsilon)`` over the axes from ``axis`` on, which stay."""
    wide = widened(b, x)
    axes = range(axis, x.rank)
    centre = mean(b, wide, axes)
    offset = b.map("sub", wide, centre)
    var = mean(b, b.map("mul", offset, offset), axes)
    return centre, b.map("rsqrt", b.map("add", var, epsilon))


@rule("RMSNormalization")
def rms_normalization(b: Builder, node: Call, x: Value, scale: Value) -> Value:
    """``x / sqrt(mean(x * x) + epsilon) * scale`` over the axes from ``axis`` on."""
    axis = check_axis(node.integer("axis", -1), x.rank, "RMSNormalization")
    epsilon = node.real("epsilon", 1e-5)
    return b.make(RmsNormOp, x, b.convert(scale, x.dtype), axis=axis, epsilon=epsilon)


@rule("LpNormalization")
def lp_normalization(b: Builder, node: Call, x: Value) -> Value:
    """``x`` over its 1- or 2-norm along an axis; a line of zeros stays so."""
    axis = check_axis(node.integer("axis", -1), x.rank, "LpNormalization")
    p = node.integer("p", 2)
    if p not in (1, 2):
        node.invalid("attribute 'p' is neither 1 nor 2", ("p", p))
    wide = widened(b, x)
    if p == 1:
        norm = b.reduce("sum", b.map("abs", wide), [axis], keepdims=True)
    else:
        norm = b.map("sqrt", b.reduce("sum", b.map("mul", wide, wide), [axis], keepdims=True))
    safe = b.map("where", b.map("eq", norm, 0), b.scalar(1, norm.dtype), norm)
    return b.convert(b.map("div", wide, safe), x.dtype)


@rule("MeanVarianceNormalization")
def mean_variance_normalization(b: Builder, node: Call, x: Value) -> Value:
    """``(x - mean) / (deviation + 1e-9)`` over ``axes``."""
    axes = [check_axis(a, x.rank, "axes") for a in node.integers("axes", (0, 2, 3))]
    wide = widened(b, x)
    offset = b.map("sub", wide, mean(b, wide, axes))
    deviation = b.map("sqrt", mean(b, b.map("mul", offset, offset), axes))
    return b.convert(b.map("div", offset, b.map("add", deviation, 1e-9)), x.dtype)


@rule("Softmax")
def softmax(b: Builder, node: Call, x: Value) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis``; up to opset 12 over all axes from it on."""
    axis, lines = _lines(b, node, x)
    return b.reshape(b.make(SoftmaxOp, lines, axis=axis), x.dims)


@rule("LogSoftmax")
def log_softmax_rule(b: Builder, node: Call, x: Value) -> Value:
    """The logarithm of the softmax."""
    axis, lines = _lines(b, node, x)
    return b.reshape(log_softmax(b, lines, axis), x.dims)


def _lines(b: Builder, node: Call, x: Value) -> tuple[int, Value]:
    """The axis to normalise along, and ``x`` so shaped that it is one axis."""
    if node.version >= 13:
        return check_axis(node.integer("axis", -1), x.rank, node.node.op_type), x
    axis = check_axis(node.integer("axis", 1), x.rank, node.node.op_type)
    if axis == x.rank - 1:
        return axis, x
    return 1, b.reshape(x, [product(x.dims[:axis]), product(x.dims[axis:])])

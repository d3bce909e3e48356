"""Normalisations: layer, root mean square, group, batch, and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.expr import ExprLike, as_expr, product
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.types import spec


@rule("aten.layer_norm")
def layer_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    shape: Sequence[ExprLike],
    scale: SSAValue | None = None,
    bias: SSAValue | None = None,
    epsilon: float = 1e-5,
    cudnn_enable: bool = True,
) -> SSAValue:
    """Over the last axes, as many as ``shape`` has."""
    return b.op(LayerNormOp, x, scale, bias, axis=-len(shape), epsilon=epsilon)


@rule("aten.rms_norm")
def rms_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    shape: Sequence[ExprLike],
    scale: SSAValue | None = None,
    epsilon: float | None = None,
) -> SSAValue:
    """Over the last axes; without an epsilon it is that of the element type."""
    smallest = 2.0 ** -(52 if spec(x).dtype.bits == 64 else 23)
    return b.op(
        RmsNormOp, x, scale, axis=-len(shape), epsilon=smallest if epsilon is None else epsilon
    )


@rule("aten.group_norm")
def group_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    groups: int,
    scale: SSAValue | None = None,
    bias: SSAValue | None = None,
    epsilon: float = 1e-5,
    cudnn_enabled: bool = True,
) -> SSAValue:
    """Over the channels of each group and all places."""
    batch, channels, *places = spec(x).dims
    rows = b.reshape(x, (batch, groups, channels // groups * product(places)))
    y = b.reshape(b.op(LayerNormOp, rows, None, None, axis=-1, epsilon=epsilon), spec(x).dims)
    y = y if scale is None else b.map("mul", y, _per_channel(b, scale, y))
    return y if bias is None else b.map("add", y, _per_channel(b, bias, y))


@rule("aten.instance_norm")
def instance_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    mean: SSAValue | None,
    variance: SSAValue | None,
    use_input_stats: bool,
    momentum: float,
    epsilon: float,
    cudnn_enabled: bool = True,
) -> SSAValue:
    """Over the places of each channel."""
    if not use_input_stats:
        assert mean is not None, "torch gives running statistics"
        assert variance is not None, "torch gives running statistics"
        return _affine(b, x, scale, bias, mean, variance, epsilon)
    channels = spec(x).dims[1].constant
    if channels is None:
        call.refuse("the number of channels must be known", ("shape", spec(x).dims))
    return group_norm(b, call, x, channels, scale, bias, epsilon)


@rule("aten.batch_norm")
def batch_norm(
    b: Builder,
    call: Call,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    mean: SSAValue | None,
    variance: SSAValue | None,
    training: bool,
    momentum: float,
    epsilon: float,
    cudnn_enabled: bool = True,
) -> SSAValue:
    """By the running statistics of each channel; where there are none, by those of the batch."""
    if mean is None or variance is None:
        return batch_norm_own(b, call, x, scale, bias, True, momentum, epsilon)[0]
    if training:
        call.refuse("a model in training has no support", fix="call .eval() before exporting")
    return _affine(b, x, scale, bias, mean, variance, epsilon)


@rule("aten._native_batch_norm_legit.no_stats")
def batch_norm_own(
    b: Builder,
    call: Call,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[SSAValue, ...]:
    """By the statistics of the batch; they come along."""
    axes = [a for a in range(spec(x).rank) if a != 1]
    middle, spread = _statistics(b, x, axes)
    channels = (spec(x).dims[1],)
    mean, variance = b.reshape(middle, channels), b.reshape(spread, channels)
    y = _affine(b, x, scale, bias, mean, variance, epsilon)
    return y, mean, _inverse_root(b, variance, epsilon)


@rule("aten._native_batch_norm_legit_no_training")
def batch_norm_inference(
    b: Builder,
    call: Call,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    mean: SSAValue,
    variance: SSAValue,
    momentum: float,
    epsilon: float,
) -> tuple[SSAValue, ...]:
    """By the running statistics of each channel; what training would save is empty."""
    none = b.expand(b.like(0, x), (0,))
    return _affine(b, x, scale, bias, mean, variance, epsilon), none, none


@rule("aten.native_layer_norm")
def layer_norm_with_statistics(
    b: Builder,
    call: Call,
    x: SSAValue,
    shape: Sequence[ExprLike],
    scale: SSAValue | None,
    bias: SSAValue | None,
    epsilon: float,
) -> tuple[SSAValue, ...]:
    """Over the last axes; mean and one over the root of the variance come along."""
    y = layer_norm(b, call, x, shape, scale, bias, epsilon)
    rank = spec(x).rank
    return y, *_saved(b, call, x, range(rank - len(shape), rank), epsilon)


@rule("aten.native_group_norm")
def group_norm_with_statistics(
    b: Builder,
    call: Call,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    batch: ExprLike,
    channels: ExprLike,
    places: ExprLike,
    groups: int,
    epsilon: float,
) -> tuple[SSAValue, ...]:
    """Over the channels of each group and all places; the same come along."""
    y = group_norm(b, call, x, groups, scale, bias, epsilon)
    size = as_expr(channels) // groups * as_expr(places)
    return y, *_saved(b, call, b.reshape(x, (batch, groups, size)), (2,), epsilon)


def _saved(
    b: Builder, call: Call, x: SSAValue, axes: Sequence[int], epsilon: float
) -> tuple[SSAValue, ...]:
    middle, spread = _statistics(b, x, axes)
    made = (middle, _inverse_root(b, spread, epsilon))
    wanted = zip(made, call.outputs[1:], strict=True)
    return tuple(b.convert(b.reshape(value, want.dims), want.dtype) for value, want in wanted)


def _statistics(b: Builder, x: SSAValue, axes: Sequence[int]) -> tuple[SSAValue, SSAValue]:
    """Mean and variance along axes, which stay with size 1."""
    wide = b.widened(x)
    middle = b.mean(wide, axes)
    far = b.map("sub", wide, middle)
    return middle, b.mean(b.map("mul", far, far), axes)


def _inverse_root(b: Builder, variance: SSAValue, epsilon: float) -> SSAValue:
    return b.map("rsqrt", b.map("add", variance, b.like(epsilon, variance)))


def _affine(
    b: Builder,
    x: SSAValue,
    scale: SSAValue | None,
    bias: SSAValue | None,
    mean: SSAValue,
    variance: SSAValue,
    epsilon: float,
) -> SSAValue:
    """One product and one sum per element: what belongs to a channel is formed beforehand."""
    wide = b.widened(mean)
    root = b.map("sqrt", b.map("add", b.widened(variance), b.like(epsilon, wide)))
    one = b.like(1, wide) if scale is None else b.widened(scale)
    factor = b.map("div", one, root)
    shift = b.map("neg", b.map("mul", wide, factor))
    shift = shift if bias is None else b.map("add", b.widened(bias), shift)
    y = b.map("mul", b.widened(x), _per_channel(b, factor, x))
    return b.convert(b.map("add", y, _per_channel(b, shift, x)), spec(x).dtype)


def _per_channel(b: Builder, values: SSAValue, x: SSAValue) -> SSAValue:
    """``[C]`` as it meets ``[N, C, *S]``."""
    return b.reshape(values, (spec(values).size, *[1] * (spec(x).rank - 2)))


@rule("aten.softmax", "aten._softmax")
def softmax(
    b: Builder, call: Call, x: SSAValue, dim: int, half_to_float: bool = False, *, dtype: Any = None
) -> SSAValue:
    """Along an axis."""
    y = b.convert(x, call.dtype)
    return b.op(SoftmaxOp, y, axis=axis_of(x, dim)) if spec(x).rank else b.like(1, y)


@rule("aten.log_softmax", "aten._log_softmax")
def log_softmax(
    b: Builder, call: Call, x: SSAValue, dim: int, half_to_float: bool = False, *, dtype: Any = None
) -> SSAValue:
    """``x - max - log(sum(exp(x - max)))``."""
    wide, axes = b.widened(b.convert(x, call.dtype)), (axis_of(x, dim),)
    if not spec(x).rank:
        return b.like(0, wide)
    far = b.map("sub", wide, b.reduce("max", wide, axes))
    y = b.map("sub", far, b.map("log", b.reduce("sum", b.map("exp", far), axes)))
    return b.convert(y, call.dtype)

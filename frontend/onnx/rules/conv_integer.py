"""Convolutions of quantised tensors, as exact integer convolutions, and Col2Im."""

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, need_rank, per_channel
from tapeout.frontend.onnx.rules.conv import convolution
from tapeout.frontend.onnx.rules.quantize import centred, requantized
from tapeout.frontend.onnx.rules.scales import check_scale
from tapeout.frontend.onnx.rules.windows import explicit_pads, per_axis
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i32
from tapeout.ir.ops.conv_transpose import ConvTransposeOp

UNIT_ELEMENTS = 1 << 24
"""The largest set of unit blocks that is written out."""


@rule("ConvInteger")
def conv_integer(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    x_zero: Value | None = None,
    w_zero: Value | None = None,
) -> Value:
    """Convolution of 8-bit integers less their zero points, exact in i32."""
    return convolution(b, node, centred(b, x, x_zero, None), centred(b, w, w_zero, 0))


@rule("QLinearConv")
def qlinear_conv(
    b: Builder,
    node: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    y_scale: Value,
    y_zero: Value,
    bias: Value | None = None,
) -> Value:
    """An i32 convolution, scaled and rounded to the result's 8-bit type.

    ``bias`` is i32 in units of ``x_scale * w_scale``; ``w_scale`` may be one per output channel.
    """
    total = convolution(
        b,
        node,
        centred(b, x, x_zero, None),
        centred(b, w, w_zero, 0),
        None if bias is None else b.convert(bias, i32),
    )
    check_scale(node, "x_scale", x_scale)
    check_scale(node, "w_scale", w_scale)
    check_scale(node, "y_scale", y_scale, positive=True)
    scale = b.map("div", b.map("mul", _one(b, x_scale), w_scale), _one(b, y_scale))
    if scale.rank == 1:
        scale = per_channel(b, scale, total.rank) if scale.dims[0] != 1 else _one(b, scale)
    return requantized(b, total, scale, y_zero)


def _one(b: Builder, x: Value) -> Value:
    return b.reshape(x, ())


@rule("Col2Im")
def col2im(b: Builder, node: Call, x: Value, image: Value, block: Value) -> Value:
    """Columns ``[N, C * prod(K), L]`` added into an image ``[N, C, *image]``.

    It is the transposed convolution, one group per channel, whose kernels are the unit blocks.
    """
    kernel = b.ints(node, block, "the block's shape")
    sizes = b.ints(node, image, "the image's shape")
    n = len(kernel)
    need_rank(node, "the columns", x, 3)
    if len(sizes) != n:
        node.invalid("image and block have other numbers of axes", ("image", sizes))
    if min(kernel, default=0) < 1:
        node.invalid("the block has an axis without elements", ("block", kernel))
    strides, dilations = per_axis(node, "strides", n), per_axis(node, "dilations", n)
    low, high = ([int(p) for p in side] for side in explicit_pads(node, n))
    room = [s + low[i] + high[i] - (kernel[i] - 1) * dilations[i] - 1 for i, s in enumerate(sizes)]
    if min(room, default=0) < 0:
        node.invalid("the block is larger than the image", ("block", kernel), ("image", sizes))
    taps = int(np.prod(kernel))
    channels, rest = divmod(fixed(node, x.dims[1], "the channel axis"), taps)
    if rest or channels < 1 or taps * taps * channels > UNIT_ELEMENTS:
        node.invalid("the channels are no multiple of the block", ("channels", x.dims[1]))
    units = np.tile(np.eye(taps), (channels, 1)).reshape(channels * taps, 1, *kernel)
    return b.make(
        ConvTransposeOp,
        b.reshape(x, [*x.dims[:2], *(r // s + 1 for r, s in zip(room, strides, strict=True))]),
        b.constant(units.astype(x.dtype.numpy)),
        None,
        strides=strides,
        pads=(*low, *high),
        dilations=dilations,
        output_padding=tuple(r % s for r, s in zip(room, strides, strict=True)),
        groups=channels,
    )

"""Convolutions over float and integer tensors."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, need_rank
from tapeout.frontend.onnx.rules.windows import (
    Windows,
    explicit_pads,
    per_axis,
    spatial_rank,
    windows,
)
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.deform_conv import DeformConvOp


@rule("Conv")
def conv(b: Builder, node: Call, x: Value, w: Value, bias: Value | None = None) -> Value:
    """Cross-correlation of ``x [N, C, *S]`` with ``w [O, C / group, *K]``."""
    return convolution(b, node, x, w, bias)


def convolution(b: Builder, node: Call, x: Value, w: Value, bias: Value | None = None) -> Value:
    """``nn.conv`` with the attributes of ``node``; padding that depends on a size is explicit."""
    n = spatial_rank(node, x)
    over = windows(node, x.dims[2:], kernel_of_weights(node, w, n))
    pads = over.pads
    return b.make(
        ConvOp,
        x if pads is not None else over.pad(b, x),
        w,
        bias,
        strides=over.strides,
        pads=pads if pads is not None else (0,) * (2 * n),
        dilations=over.dilations,
        groups=group_of(node),
    )


def kernel_of_weights(node: Call, w: Value, n: int) -> tuple[int, ...]:
    """The kernel's sizes, from the weights; E0310 when ``kernel_shape`` says otherwise."""
    if w.rank != n + 2:
        node.invalid("the weights have another rank than the input", ("weights", w.rank))
    kernel = tuple(fixed(node, d, "the kernel") for d in w.dims[2:])
    given = node.integers("kernel_shape", kernel) or kernel
    if given != kernel:
        node.invalid(
            "attribute 'kernel_shape' does not fit the weights",
            ("kernel_shape", list(given)),
            ("weights", list(kernel)),
        )
    if min(kernel, default=1) < 1:
        node.invalid("a kernel without elements", ("weights", list(kernel)))
    return kernel


def group_of(node: Call) -> int:
    """The attribute ``group``, at least 1."""
    group = node.integer("group", 1)
    if group < 1:
        node.invalid("attribute 'group' is not positive", ("group", group))
    return group


@rule("ConvTranspose")
def conv_transpose(b: Builder, node: Call, x: Value, w: Value, bias: Value | None = None) -> Value:
    """The gradient of a convolution; a wanted size beyond reach is zero at its high end."""
    n = spatial_rank(node, x)
    kernel = kernel_of_weights(node, w, n)
    strides, dilations = per_axis(node, "strides", n), per_axis(node, "dilations", n)
    extra = list(per_axis(node, "output_padding", n, default=0, least=0))
    low, high = _transposed_pads(node, x, kernel, strides, dilations, extra)
    return b.make(
        ConvTransposeOp,
        x,
        w,
        bias,
        strides=strides,
        pads=(*low, *high),
        dilations=dilations,
        output_padding=tuple(extra),
        groups=group_of(node),
    )


def _transposed_pads(
    node: Call,
    x: Value,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    extra: list[int],
) -> tuple[list[int], list[int]]:
    """Low and high cuts; raises ``extra`` where the wanted size is beyond the kernel's reach."""
    n = len(kernel)
    auto = node.text("auto_pad", "NOTSET")
    wanted = list(node.integers("output_shape"))[-n:]
    if wanted and len(wanted) != n:
        node.invalid("attribute 'output_shape' is too short", ("output_shape", wanted))
    if not wanted and not auto.startswith("SAME"):
        low, high = explicit_pads(node, n)
        return [int(v) for v in low], [int(v) for v in high]
    lows: list[int] = []
    highs: list[int] = []
    for i, size in enumerate(x.dims[2:]):
        target = as_expr(wanted[i]) if wanted else size * strides[i]
        reach = (size - 1) * strides[i] + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = fixed(node, reach - target, "an axis with a wanted output size")
        extra[i] += max(-total, 0)
        less = max(total, 0) // 2
        more = max(total, 0) - less
        lows.append(less if auto == "SAME_UPPER" else more)
        highs.append(more if auto == "SAME_UPPER" else less)
    return lows, highs


@rule("DeformConv")
def deform_conv(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    offset: Value,
    bias: Value | None = None,
    mask: Value | None = None,
) -> Value:
    """Convolution whose taps are moved by ``offset`` and weighed by ``mask``."""
    n = spatial_rank(node, x)
    if n != 2:
        node.refuse("deformable convolution has support in two dimensions", ("spatial axes", n))
    over: Windows = windows(node, x.dims[2:], kernel_of_weights(node, w, n))
    groups = node.integer("offset_group", 1)
    if groups < 1:
        node.invalid("attribute 'offset_group' is not positive", ("offset_group", groups))
    return b.make(
        DeformConvOp,
        x,
        w,
        offset,
        bias,
        mask,
        strides=over.strides,
        pads=over.pads,
        dilations=over.dilations,
        groups=group_of(node),
        offset_groups=groups,
    )


@rule("CausalConvWithState")
def causal_conv(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    bias: Value | None = None,
    state: Value | None = None,
) -> tuple[Value, Value]:
    """Depthwise convolution along time over the last ``k - 1`` places and ``x``."""
    act = node.text("activation", "none")
    if act not in ("none", "silu", "swish"):
        node.invalid("unknown activation", ("activation", act), ("known", "none, silu, swish"))
    need_rank(node, "the input", x, 3)
    need_rank(node, "the kernel", w, 3)
    taps = fixed(node, w.dims[2], "the kernel")
    channels = fixed(node, w.dims[0], "the channels")
    if taps < 1 or channels < 1:
        node.invalid("a kernel without elements", ("taps", taps), ("channels", channels))
    batch, _, length = x.dims
    past = state or b.filled([batch, channels, taps - 1], 0, x.dtype)
    whole = b.concat([past, x], 2)
    y = b.make(ConvOp, whole, w, bias, strides=(1,), pads=(0, 0), dilations=(1,), groups=channels)
    y = y if act == "none" else b.map("silu", y)
    return y, b.slice_axis(whole, 2, length, taps - 1)

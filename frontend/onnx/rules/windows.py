"""The windows of convolutions and pools: attributes checked, automatic padding resolved."""

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.rules.compose import one_of
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import Expr, as_expr, ceildiv, is_at_least, maximum, minimum
from tapeout.ir.ops.views import PadOp

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Windows:
    """Where windows lie over the spatial axes, one entry per axis.

    ``low`` and ``high`` are the padding; ``sizes`` are the numbers of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    low: tuple[Expr, ...]
    high: tuple[Expr, ...]
    sizes: tuple[Expr, ...]

    @property
    def pads(self) -> tuple[int, ...] | None:
        """All low sides, then all high ones; None when one depends on a symbol."""
        constants = [p.constant for p in (*self.low, *self.high)]
        return None if None in constants else tuple(c for c in constants if c is not None)

    @property
    def is_padded(self) -> bool:
        """Whether any side may have padding."""
        return any(p != 0 for p in (*self.low, *self.high))

    def pad(self, b: Builder, x: Value, value: Value | None = None) -> Value:
        """``x`` with the padding written out, ``value`` (zero when absent) in it."""
        lead = (as_expr(0),) * (x.rank - len(self.low))
        return b.make(PadOp, x, value, low=(*lead, *self.low), high=(*lead, *self.high))


def per_axis(node: Call, name: str, n: int, default: int = 1, least: int = 1) -> tuple[int, ...]:
    """An attribute with one integer per spatial axis, none below ``least``; E0310 otherwise."""
    values = node.integers(name, [default] * n) or (default,) * n
    if len(values) != n or min(values, default=least) < least:
        node.invalid(
            f"attribute {name!r} needs {n} integers of at least {least}", (name, list(values))
        )
    return values


def kernel_of(node: Call, n: int) -> tuple[int, ...]:
    """The attribute ``kernel_shape``, which must be given."""
    if not node.has("kernel_shape"):
        node.invalid("attribute 'kernel_shape' is missing")
    return per_axis(node, "kernel_shape", n)


def spatial_rank(node: Call, x: Value) -> int:
    """The number of spatial axes of ``[N, C, *S]``; E0310 when there is none."""
    if x.rank < 3:
        node.invalid("the input needs axes for batch, channels and space", ("rank", x.rank))
    return x.rank - 2


def windows(node: Call, spatial: Sequence[Expr], kernel: Sequence[int]) -> Windows:
    """The windows of ``node`` over the sizes ``spatial``; E0310 for attributes out of range."""
    n = len(spatial)
    strides = per_axis(node, "strides", n)
    dilations = per_axis(node, "dilations", n)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = one_of(node, "auto_pad", "NOTSET", AUTO_PADS)
    if auto.startswith("SAME"):
        low, high, sizes = _same(spatial, strides, spans, upper=auto == "SAME_UPPER")
    else:
        low, high = explicit_pads(node, n) if auto == "NOTSET" else no_pads(n)
        ceil = node.flag("ceil_mode")
        sizes = [
            _count(size, before, after, step, span, ceil=ceil)
            for size, before, after, step, span in zip(
                spatial, low, high, strides, spans, strict=True
            )
        ]
    _check_sizes(node, spatial, spans, sizes)
    return Windows(
        tuple(kernel), strides, dilations, tuple(low), tuple(high), tuple(map(as_expr, sizes))
    )


def explicit_pads(node: Call, n: int) -> tuple[list[Expr], list[Expr]]:
    """The attribute ``pads`` as low and high sides; E0310 when it is negative or too short."""
    pads = node.integers("pads", [0] * (2 * n)) or (0,) * (2 * n)
    if len(pads) != 2 * n or min(pads, default=0) < 0:
        node.invalid(f"attribute 'pads' needs {2 * n} integers of at least 0", ("pads", list(pads)))
    return [as_expr(p) for p in pads[:n]], [as_expr(p) for p in pads[n:]]


def no_pads(n: int) -> tuple[list[Expr], list[Expr]]:
    """No padding on either side."""
    return [as_expr(0)] * n, [as_expr(0)] * n


def _same(
    spatial: Sequence[Expr], strides: Sequence[int], spans: Sequence[int], *, upper: bool
) -> tuple[list[Expr], list[Expr], list[Expr]]:
    """Padding that makes ``ceil(size / stride)`` windows; the odd one goes to the named side."""
    sizes = [ceildiv(s, step) for s, step in zip(spatial, strides, strict=True)]
    low: list[Expr] = []
    high: list[Expr] = []
    for size, s, step, span in zip(sizes, spatial, strides, spans, strict=True):
        total = maximum((size - 1) * step + span - s, 0)
        less = total // 2
        low.append(less if upper else total - less)
        high.append(total - less if upper else less)
    return low, high, sizes


def _count(size: Expr, low: Expr, high: Expr, stride: int, span: int, *, ceil: bool) -> Expr:
    """How many windows fit; with ``ceil`` the last may hang over, but starts before the end."""
    room = size + low + high - span
    if not ceil:
        return room // stride + 1
    return minimum(ceildiv(room, stride) + 1, ceildiv(size + low, stride))


def _check_sizes(
    node: Call, spatial: Sequence[Expr], spans: Sequence[int], sizes: Sequence[Expr]
) -> None:
    for size, s, span in zip(sizes, spatial, spans, strict=True):
        if is_at_least(-size, 0) and s != 0:
            node.invalid(
                "the window is larger than the padded input",
                ("window", span),
                ("input", s),
                fix="use a smaller kernel or dilation, or more padding",
            )

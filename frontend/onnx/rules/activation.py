"""Activations: one function of each element."""

from collections.abc import Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value

PLAIN: Mapping[str, str] = {
    "Mish": "mish",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
}


@rule(*PLAIN)
def plain(b: Builder, node: Call, x: Value) -> Value:
    """A function without parameters."""
    return b.map(PLAIN[node.node.op_type], x)


@rule("Celu")
def celu(b: Builder, node: Call, x: Value) -> Value:
    """``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``."""
    alpha = node.real("alpha", 1.0)
    bent = b.map("mul", b.map("expm1", b.map("div", x, alpha)), alpha)
    return b.map("add", b.map("max", x, 0), b.map("min", bent, 0))


@rule("Clip")
def clip(
    b: Builder, node: Call, x: Value, low: Value | None = None, high: Value | None = None
) -> Value:
    """``min(max(x, low), high)``; the limits are inputs from version 11 on."""
    if node.has("min"):
        low = b.scalar(node.real("min"), x.dtype)
    if node.has("max"):
        high = b.scalar(node.real("max"), x.dtype)
    made = x if low is None else b.map("max", x, low)
    return made if high is None else b.map("min", made, high)


@rule("Elu")
def elu(b: Builder, node: Call, x: Value) -> Value:
    """``x``, below zero ``alpha * (exp(x) - 1)``."""
    return _elu(b, x, node.real("alpha", 1.0))


@rule("Gelu")
def gelu(b: Builder, node: Call, x: Value) -> Value:
    """``x * Phi(x)``, or its approximation by tanh."""
    return b.map("gelu_tanh" if node.text("approximate", "none") == "tanh" else "gelu", x)


@rule("HardSigmoid")
def hard_sigmoid(b: Builder, node: Call, x: Value) -> Value:
    """``max(0, min(1, alpha * x + beta))``."""
    return _hard_sigmoid(b, x, node.real("alpha", 0.2), node.real("beta", 0.5))


@rule("HardSwish")
def hard_swish(b: Builder, node: Call, x: Value) -> Value:
    """``x * hard_sigmoid(x)`` with a slope of a sixth."""
    return b.map("mul", x, _hard_sigmoid(b, x, 1 / 6, 0.5))


@rule("LeakyRelu")
def leaky_relu(b: Builder, node: Call, x: Value) -> Value:
    """``x``, below zero ``alpha * x``."""
    slope = b.map("mul", x, node.real("alpha", 0.01))
    return b.map("where", b.map("lt", x, 0), slope, x)


@rule("PRelu")
def parametric_relu(b: Builder, node: Call, x: Value, slope: Value) -> Value:
    """``x``, below zero ``slope * x``; below version 7 a slope for each channel is a vector."""
    if node.version < 7 and slope.rank == 1 and x.rank > 2 and slope.dims[0] != 1:
        slope = b.reshape(slope, [*slope.dims, *[1] * (x.rank - 2)])
    return b.map("where", b.map("lt", x, 0), b.map("mul", x, slope), x)


@rule("Selu")
def selu(b: Builder, node: Call, x: Value) -> Value:
    """``gamma * elu(x)``."""
    alpha = node.real("alpha", 1.67326319217681884765625)
    return b.map("mul", _elu(b, x, alpha), node.real("gamma", 1.05070102214813232421875))


@rule("Shrink")
def shrink(b: Builder, node: Call, x: Value) -> Value:
    """Zero within ``lambd``, and ``bias`` nearer to zero outside."""
    limit, bias = node.real("lambd", 0.5), node.real("bias", 0.0)
    above = b.map("where", b.map("gt", x, limit), b.map("sub", x, bias), b.scalar(0, x.dtype))
    return b.map("where", b.map("lt", x, -limit), b.map("add", x, bias), above)


@rule("Softsign")
def softsign(b: Builder, node: Call, x: Value) -> Value:
    """``x / (1 + |x|)``."""
    return b.map("div", x, b.map("add", b.map("abs", x), 1))


@rule("Swish")
def swish(b: Builder, node: Call, x: Value) -> Value:
    """``x * sigmoid(alpha * x)``."""
    alpha = node.real("alpha", 1.0)
    if alpha == 1.0:
        return b.map("silu", x)
    return b.map("mul", x, b.map("sigmoid", b.map("mul", x, alpha)))


@rule("ThresholdedRelu")
def thresholded_relu(b: Builder, node: Call, x: Value) -> Value:
    """``x`` above ``alpha``, else zero."""
    above = b.map("gt", x, node.real("alpha", 1.0))
    return b.map("where", above, x, b.scalar(0, x.dtype))


def _elu(b: Builder, x: Value, alpha: float) -> Value:
    # The minimum keeps exp from overflowing where its result is not used.
    bent = b.map("mul", b.map("expm1", b.map("min", x, 0)), alpha)
    return b.map("where", b.map("lt", x, 0), bent, x)


def _hard_sigmoid(b: Builder, x: Value, alpha: float, beta: float) -> Value:
    line = b.map("add", b.map("mul", x, alpha), beta)
    return b.map("max", b.map("min", line, 1), 0)

"""Steps of optimisers, as elementwise maps over each tensor that is optimised."""

from collections.abc import Callable, Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import all_given, one_of
from tapeout.frontend.onnx.value import Value

DOMAIN = "ai.onnx.preview.training"

Step = Callable[[Value, Sequence[Value]], tuple[Value, ...]]


@rule("Adagrad", domain=DOMAIN)
def adagrad(b: Builder, node: Call, *given: Value | None) -> tuple[Value, ...]:
    """``h += g^2; x -= rate / (1 + decay * t) * g / (sqrt(h) + epsilon)``."""
    rate, count, *xs = _operands(node, given)
    steps = b.map("mul", b.convert(count, rate.dtype), node.real("decay_factor"))
    slowed = b.map("div", rate, b.map("add", steps, 1))

    def step(gradient: Value, own: Sequence[Value]) -> tuple[Value, ...]:
        x, _, h = own
        h = b.map("add", h, b.map("mul", gradient, gradient))
        root = b.map("add", b.map("sqrt", h), node.real("epsilon", 1e-6))
        moved = b.map("div", b.map("mul", slowed, gradient), root)
        return b.map("sub", x, moved), h

    return _each(b, node, xs, 3, step)


@rule("Adam", domain=DOMAIN)
def adam(b: Builder, node: Call, *given: Value | None) -> tuple[Value, ...]:
    """Averages of gradients and of their squares, corrected for their start at zero."""
    rate, count, *xs = _operands(node, given)
    alpha, beta = node.real("alpha", 0.9), node.real("beta", 0.999)
    corrected = _corrected(b, rate, b.convert(count, rate.dtype), alpha, beta)
    shrink = 1 - node.real("norm_coefficient_post")

    def step(gradient: Value, own: Sequence[Value]) -> tuple[Value, ...]:
        x, _, v, h = own
        v = _average(b, v, gradient, alpha)
        h = _average(b, h, b.map("mul", gradient, gradient), beta)
        root = b.map("add", b.map("sqrt", h), node.real("epsilon", 1e-6))
        moved = b.map("mul", corrected, b.map("div", v, root))
        return b.map("mul", b.map("sub", x, moved), shrink), v, h

    return _each(b, node, xs, 4, step)


def _operands(node: Call, given: Sequence[Value | None]) -> tuple[Value, ...]:
    """The rate, the step's number, and what is optimised."""
    if len(given) < 3:
        node.invalid("the rate, the step or the tensors are left out", ("given", len(given)))
    return all_given(node, given)


def _average(b: Builder, before: Value, now: Value, keep: float) -> Value:
    return b.map("add", b.map("mul", before, keep), b.map("mul", now, 1 - keep))


def _corrected(b: Builder, rate: Value, count: Value, alpha: float, beta: float) -> Value:
    """``rate * sqrt(1 - beta^t) / (1 - alpha^t)``; at step 0 the rate itself."""
    rest_alpha = b.map("sub", b.scalar(1, rate.dtype), _power(b, alpha, count))
    rest_beta = b.map("sub", b.scalar(1, rate.dtype), _power(b, beta, count))
    made = b.map("div", b.map("mul", rate, b.map("sqrt", rest_beta)), rest_alpha)
    return b.map("where", b.map("gt", count, 0), made, rate)


def _power(b: Builder, base: float, exponent: Value) -> Value:
    return b.map("pow", b.scalar(base, exponent.dtype), exponent)


@rule("Momentum", domain=DOMAIN)
def momentum(b: Builder, node: Call, *given: Value | None) -> tuple[Value, ...]:
    """``v = alpha v + beta g; x -= rate * v``, or Nesterov's step ahead of it."""
    rate, count, *xs = _operands(node, given)
    alpha, beta = node.real("alpha"), node.real("beta")
    nesterov = one_of(node, "mode", "standard", ("standard", "nesterov")) == "nesterov"
    first = b.map("gt", count, 0)
    weight = b.map("where", first, b.scalar(beta, rate.dtype), b.scalar(1, rate.dtype))

    def step(gradient: Value, own: Sequence[Value]) -> tuple[Value, ...]:
        x, _, v = own
        v = b.map("add", b.map("mul", v, alpha), b.map("mul", weight, gradient))
        ahead = b.map("add", gradient, b.map("mul", v, alpha)) if nesterov else v
        return b.map("sub", x, b.map("mul", rate, ahead)), v

    return _each(b, node, xs, 3, step)


def _each(
    b: Builder, node: Call, xs: Sequence[Value], groups: int, step: Step
) -> tuple[Value, ...]:
    """Run ``step`` for each tensor; operands and outputs are grouped by kind, not by tensor.

    The first two groups are the tensors and their gradients; a regularisation is added to these.
    """
    if not xs or len(xs) % groups:
        node.invalid("the number of tensors does not fit", ("given", len(xs)), ("kinds", groups))
    count = len(xs) // groups
    decay = node.real("norm_coefficient")
    made: list[tuple[Value, ...]] = []
    for i in range(count):
        own = xs[i::count]
        gradient = b.map("add", b.map("mul", own[0], decay), own[1])
        made.append(step(gradient, own))
    return tuple(each for kind in zip(*made, strict=True) for each in kind)

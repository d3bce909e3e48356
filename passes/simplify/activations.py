"""Activations put together again from what exporters write out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import (
    either_way,
    is_number,
    number,
    only_use,
    operands_of,
    plus_number,
    times_number,
)
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


@dataclass(frozen=True)
class RecomposeActivations(Pass):
    """Find GELU (erf and tanh forms, never one for the other), SiLU, softplus, mish, sigmoid.

    Saves up to eight passes over the activation where the chain is not fused, and lets a
    target use its own kernel of known error.
    """

    name = "recompose-activations"

    def apply(self, module: Module) -> None:
        """Rewrite every whole chain; intermediate values that others read stay."""
        drive(module, PATTERNS)


class Silu(Pattern[MapOp]):
    """``x * sigmoid(x) = silu(x)``."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for x, gate in either_way(op.xs):
            inner = operands_of(gate, "sigmoid")
            if inner is not None and inner[0] is x:
                return edit.map("silu", x)
        return None


class SiluByDivision(Pattern[MapOp]):
    """``x / (1 + exp(-x)) = silu(x)``; ``1 / (1 + exp(-x)) = sigmoid(x)``."""

    root = MapOp
    fns = frozenset({"div", "reciprocal"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        x = _logistic_argument(op.xs[-1], edit)
        if x is None:
            return None
        if op.fn.data == "reciprocal" or is_number(edit, op.xs[0], 1.0):
            return edit.map("sigmoid", x)
        return edit.map("silu", x) if op.xs[0] is x else None


def _logistic_argument(value: SSAValue, edit: Edit) -> SSAValue | None:
    """``x`` when ``value`` is ``1 + exp(-x)``."""
    shifted = plus_number(edit, value)
    power = operands_of(shifted[0], "exp") if shifted and shifted[1] == 1.0 else None
    negated = operands_of(power[0], "neg") if power is not None else None
    return None if negated is None else negated[0]


class Mish(Pattern[MapOp]):
    """``x * tanh(softplus(x)) = mish(x)``."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for x, gate in either_way(op.xs):
            inner = operands_of(gate, "tanh")
            plus = operands_of(inner[0], "softplus") if inner is not None else None
            if plus is not None and plus[0] is x:
                return edit.map("mish", x)
        return None


class Softplus(Pattern[MapOp]):
    """``log(1 + exp(x)) = softplus(x)``, which does not overflow where the chain does."""

    root = MapOp
    fns = frozenset({"log", "log1p"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        power: SSAValue | None = op.xs[0]
        if op.fn.data == "log":
            shifted = plus_number(edit, op.xs[0])
            power = shifted[0] if shifted is not None and shifted[1] == 1.0 else None
        inner = operands_of(power, "exp") if power is not None else None
        return None if inner is None else edit.map("softplus", inner[0])


class Gelu(Pattern[MapOp]):
    """``0.5 * x * (1 + erf(x / sqrt 2)) = gelu(x)``, however the products are associated.

    The tanh form ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` differs by
    4.7e-4 and is a function of its own: ``gelu_tanh(x)``.
    """

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        half = 0.5 if spec(op.y).dtype.is_float else None
        for scale, factors in _products(op.y, edit):
            if half is None or scale != half:
                continue
            for x, gate in (factors, factors[::-1]):
                shifted = plus_number(edit, gate)
                if shifted is None or shifted[1] != 1.0:
                    continue
                if _is_erf_of_root_half(shifted[0], x, edit):
                    return edit.map("gelu", x)
                if _is_tanh_of_cubic(shifted[0], x, edit):
                    return edit.map("gelu_tanh", x)
        return None


class GeluOfHalves(Pattern[MapOp]):
    """``x * (0.5 + 0.5 * erf(x / sqrt 2)) = gelu(x)``; so for tanh."""

    root = MapOp
    fns = frozenset({"mul"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        for x, gate in either_way(op.xs):
            shifted = plus_number(edit, gate)
            halved = times_number(edit, shifted[0]) if shifted and shifted[1] == 0.5 else None
            if halved is None or halved[1] != 0.5:
                continue
            if _is_erf_of_root_half(halved[0], x, edit):
                return edit.map("gelu", x)
            if _is_tanh_of_cubic(halved[0], x, edit):
                return edit.map("gelu_tanh", x)
        return None


def _products(value: SSAValue, edit: Edit) -> Iterator[tuple[float, tuple[SSAValue, SSAValue]]]:
    """``(c, (a, b))`` for every way to read ``value`` as ``c * a * b``."""
    whole = times_number(edit, value)
    if whole is not None:
        inner = operands_of(whole[0], "mul")
        if inner is not None and only_use(whole[0]):
            yield whole[1], (inner[0], inner[1])
    pair = operands_of(value, "mul")
    if pair is None:
        return
    for a, b in either_way(pair):
        scaled = times_number(edit, a)
        if scaled is not None:
            yield scaled[1], (scaled[0], b)


def _is_erf_of_root_half(value: SSAValue, x: SSAValue, edit: Edit) -> bool:
    inner = operands_of(value, "erf")
    scaled = times_number(edit, inner[0]) if inner is not None else None
    return scaled is not None and scaled[0] is x and _near(scaled[1], math.sqrt(0.5), value)


def _is_tanh_of_cubic(value: SSAValue, x: SSAValue, edit: Edit) -> bool:
    """``tanh(sqrt(2/pi) * (x + 0.044715 x^3))``, also factored as ``x * (1 + 0.044715 x^2)``."""
    inner = operands_of(value, "tanh")
    if inner is None:
        return False
    root = math.sqrt(2 / math.pi)
    for scale, body in _scaled_bodies(inner[0], edit):
        if _near(scale, root, value) and (_is_cubic(body, x, edit)):
            return True
    pair = operands_of(inner[0], "mul")
    for a, b in either_way(pair) if pair is not None else ():
        scaled = times_number(edit, a)
        if scaled is not None and scaled[0] is x and _near(scaled[1], root, value):
            if _is_square_shifted(b, x, edit):
                return True
    return False


def _scaled_bodies(value: SSAValue, edit: Edit) -> Iterator[tuple[float, SSAValue]]:
    scaled = times_number(edit, value)
    if scaled is not None:
        yield scaled[1], scaled[0]


def _is_cubic(value: SSAValue, x: SSAValue, edit: Edit) -> bool:
    """``x + 0.044715 * x^3`` in any order, or ``x * (1 + 0.044715 * x^2)``."""
    total = operands_of(value, "add")
    for first, rest in either_way(total) if total is not None else ():
        if first is x and _monomial(rest, x, edit, 4, 3, value):
            return True
    product = operands_of(value, "mul")
    for first, rest in either_way(product) if product is not None else ():
        if first is x and _is_square_shifted(rest, x, edit):
            return True
    return False


def _is_square_shifted(value: SSAValue, x: SSAValue, edit: Edit) -> bool:
    """``1 + 0.044715 * x^2``."""
    shifted = plus_number(edit, value)
    return shifted is not None and shifted[1] == 1.0 and _monomial(shifted[0], x, edit, 3, 2, value)


def _monomial(
    value: SSAValue, x: SSAValue, edit: Edit, depth: int, power: int, like: SSAValue
) -> bool:
    """Whether ``value`` is ``0.044715 * x**power``."""
    found = _power_product(value, x, edit, depth)
    return found is not None and found[1] == power and _near(found[0], 0.044715, like)


def _power_product(
    value: SSAValue, x: SSAValue, edit: Edit, depth: int
) -> tuple[float, int] | None:
    """``(c, n)`` when ``value`` is a product tree of numbers and ``x`` that is ``c * x**n``."""
    if value is x:
        return 1.0, 1
    fixed = number(edit, value)
    if fixed is not None:
        return fixed, 0
    raised = operands_of(value, "pow")
    if raised is not None and raised[0] is x:
        exponent = number(edit, raised[1])
        return (1.0, int(exponent)) if exponent in (2.0, 3.0) else None
    product = operands_of(value, "mul")
    if product is None or not depth:
        return None
    parts = [_power_product(p, x, edit, depth - 1) for p in product]
    known = [p for p in parts if p is not None]
    if len(known) != 2:
        return None
    return known[0][0] * known[1][0], known[0][1] + known[1][1]


def _near(have: float, want: float, like: SSAValue) -> bool:
    """Equal up to the rounding of the element type that ``like`` has."""
    slack = {"f16": 2e-3, "bf16": 1.6e-2}.get(spec(like).dtype.name, 2e-6)
    return abs(have - want) <= slack * want


PATTERNS = (Gelu(), GeluOfHalves(), Silu(), SiluByDivision(), Mish(), Softplus())

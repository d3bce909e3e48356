"""Scalar functions over expressions, as far as the ranges of their symbols decide them."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from tapeout.ir.expr import Expr, as_expr, is_at_least, maximum, minimum
from tapeout.ir.shapes import never_equal

Element: TypeAlias = "Expr | None"
"""One element of an integer tensor; None when only the run decides it. Truth is 1 and 0."""


def _strict(compute: Callable[..., Element]) -> Callable[..., Element]:
    """Nothing is known of a function of what is not known."""

    def run(*operands: Element) -> Element:
        return None if None in operands else compute(*operands)

    return run


def _negative(a: Expr) -> Element:
    return -a


def _sum(a: Expr, b: Expr) -> Element:
    return a + b


def _difference(a: Expr, b: Expr) -> Element:
    return a - b


def _product(a: Expr, b: Expr) -> Element:
    return a * b


def _divide(a: Expr, b: Expr) -> Element:
    """Division toward zero, when it is the floor."""
    return a // b if is_at_least(a, 0) and is_at_least(b, 1) else None


def _floor_modulo(a: Expr, b: Expr) -> Element:
    return a % b if is_at_least(b, 1) else None


def _truncated_modulo(a: Expr, b: Expr) -> Element:
    return a % b if is_at_least(a, 0) and is_at_least(b, 1) else None


def _absolute(a: Expr) -> Element:
    return a if is_at_least(a, 0) else (-a if is_at_least(-a, 0) else None)


def _sign(a: Expr) -> Element:
    if is_at_least(a, 1) or is_at_least(-a, 1):
        return as_expr(1 if is_at_least(a, 1) else -1)
    return a if a == 0 else None


def _minimum(a: Expr, b: Expr) -> Element:
    return minimum(a, b)


def _maximum(a: Expr, b: Expr) -> Element:
    return maximum(a, b)


def _truth(value: bool | None) -> Element:
    return None if value is None else as_expr(int(value))


def _equal(a: Expr, b: Expr) -> Element:
    return _truth(True if a == b else (False if never_equal(a, b) else None))


def _less(a: Expr, b: Expr) -> Element:
    return _truth(True if is_at_least(b - a, 1) else (False if is_at_least(a - b, 0) else None))


def _different(a: Expr, b: Expr) -> Element:
    return _negated(_equal(a, b))


def _greater(a: Expr, b: Expr) -> Element:
    return _less(b, a)


def _at_least(a: Expr, b: Expr) -> Element:
    return _negated(_less(a, b))


def _at_most(a: Expr, b: Expr) -> Element:
    return _negated(_less(b, a))


def _negated(value: Element) -> Element:
    return None if value is None else 1 - value


def _where(condition: Element, a: Element, b: Element) -> Element:
    if condition is None or condition.constant is None:
        return a if a is not None and b is not None and a == b else None
    return a if condition.constant else b


FUNCTIONS: Mapping[str, Callable[..., Element]] = {
    **{
        name: _strict(compute)
        for name, compute in (
            ("neg", _negative),
            ("abs", _absolute),
            ("sign", _sign),
            ("add", _sum),
            ("sub", _difference),
            ("mul", _product),
            ("div", _divide),
            ("floor_mod", _floor_modulo),
            ("trunc_mod", _truncated_modulo),
            ("min", _minimum),
            ("max", _maximum),
            ("eq", _equal),
            ("ne", _different),
            ("lt", _less),
            ("le", _at_most),
            ("gt", _greater),
            ("ge", _at_least),
        )
    },
    "where": _where,
}
"""By the names of :data:`tapeout.ir.scalars.SCALARS`."""

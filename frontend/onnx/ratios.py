"""What floats make of sizes: fractions over symbols, as long as the floats are exact.

Exporters compute sizes in floats: Cast, Mul by 0.5, Floor, Cast back. With ``p`` bits of
significand, a float holds every ``n / 2^k`` with ``|n| <= 2^p``, so sums, differences and products
that stay among these are exact. Another quotient ``n / d`` is rounded, but its floor and ceiling
are right while ``|n| < 2^p``: it is no closer than ``1/d`` to an integer that it is not, and the
error is below ``(n/d) / 2^p``. Each fraction carries what must hold for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from tapeout.ir.dtypes import DType, f32, f64
from tapeout.ir.expr import (
    Expr,
    Symbol,
    as_expr,
    bounds,
    ceildiv,
    is_at_least,
    maximum,
    minimum,
    symbol,
)

SIGNIFICAND_BITS: Mapping[DType, int] = {f32: 24, f64: 53}
"""Types in which sizes are followed; narrower ones are exact for few sizes."""

LEAST_LIMIT = 65_536
"""No size is limited to less than this for the sake of exactness."""

Need: TypeAlias = "tuple[Expr, int]"
"""``(e, limit)``: ``|e| <= limit`` must hold."""


@dataclass(frozen=True)
class Ratio:
    """``num / den``, a positive number below; ``is_rounded`` to the nearest float if not exact."""

    num: Expr
    den: int = 1
    needs: frozenset[Need] = frozenset()
    is_rounded: bool = False


Element: TypeAlias = "Ratio | None"


def element(value: Any) -> Element:
    """A number or a fraction as a fraction; None for what is neither, infinities too."""
    if value is None or isinstance(value, Ratio):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    exact = Fraction(number)
    return Ratio(as_expr(exact.numerator), exact.denominator)


def from_integer(value: Expr | None, bits: int) -> Element:
    """An integer as a float of ``bits`` bits of significand."""
    return None if value is None else _ratio(value, 1, bits)


def in_type(value: Element, bits: int) -> Element:
    """A float in another type."""
    if value is None or value.is_rounded:
        return None
    return _ratio(value.num, value.den, bits, value)


def to_integer(value: Element, to: DType) -> Expr | None:
    """Rounded toward zero, when the needs are proved, the sign is, and the integer holds it."""
    if value is None or to.kind != "int" or not all(map(_holds, value.needs)):
        return None
    if not _holds((value.num, value.den * ((1 << (to.bits - 1)) - 1))):
        return None
    if value.den == 1:
        return value.num
    if is_at_least(value.num, 0):
        return value.num // value.den
    return ceildiv(value.num, value.den) if is_at_least(-value.num, 0) else None


def limits(value: Element) -> dict[Symbol, int]:
    """The greatest values of open symbols under which all needs hold; empty when none do."""
    found: dict[Symbol, int] = {}
    if value is None:
        return found
    for need in value.needs:
        for each, limit in _limit(need):
            found[each] = min(limit, found.get(each, limit))
    narrow = {s: symbol(s.name, s.lo, limit) for s, limit in found.items()}
    enough = all(_holds((e.substitute(narrow), limit)) for e, limit in value.needs)
    return found if enough and min(found.values(), default=0) >= LEAST_LIMIT else {}


def _limit(need: Need) -> Iterable[tuple[Symbol, int]]:
    value, limit = need
    unlimited = [s for s in value.symbols() if s.hi is None]
    if len(unlimited) != 1:
        return
    factor = value.coefficient(unlimited[0])
    if factor is None or factor.constant is None or factor.constant == 0:
        return
    # |c*s + rest| <= limit, at the most that the rest can be
    low, high = bounds(value - factor * _of(unlimited[0]))
    if low is not None and high is not None:
        yield unlimited[0], (limit - max(abs(low), abs(high))) // abs(factor.constant)


def _of(each: Symbol) -> Expr:
    return Expr({(each,): 1})


def _holds(need: Need) -> bool:
    value, limit = need
    return is_at_least(limit, value) and is_at_least(value, -limit)


def _ratio(num: Expr, den: int, bits: int, *parts: Ratio) -> Ratio:
    """``num / den`` in lowest terms, with what must hold for a float of it to be right."""
    shared = math.gcd(den, *(c for _, c in num.terms))
    num, den = num // shared, den // shared
    is_exact = den & (den - 1) == 0
    factors = math.gcd(*(c for _, c in num.terms)) if is_exact else 1
    # A power of two goes into the exponent.
    power = factors & -factors or 1
    limit = (1 << bits) if is_exact else (1 << bits) - 1
    needs = frozenset([(num // power, limit)]).union(*(p.needs for p in parts))
    return Ratio(num, den, needs, not is_exact)


def _negated(a: Ratio, bits: int) -> Element:
    return Ratio(-a.num, a.den, a.needs, a.is_rounded)


def _floor(a: Ratio, bits: int) -> Element:
    return Ratio(a.num // a.den, 1, a.needs)


def _ceiling(a: Ratio, bits: int) -> Element:
    return Ratio(ceildiv(a.num, a.den), 1, a.needs)


def _integral(a: Ratio, bits: int) -> Element:
    """What rounding in any way does to an integer."""
    return a if a.den == 1 else None


def _relu(a: Ratio, bits: int) -> Element:
    return Ratio(maximum(a.num, 0), a.den, a.needs, a.is_rounded)


def _sum(a: Ratio, b: Ratio, bits: int) -> Element:
    den = math.lcm(a.den, b.den)
    return _ratio(a.num * (den // a.den) + b.num * (den // b.den), den, bits, a, b)


def _difference(a: Ratio, b: Ratio, bits: int) -> Element:
    return _sum(a, Ratio(-b.num, b.den, b.needs), bits)


def _product(a: Ratio, b: Ratio, bits: int) -> Element:
    return _ratio(a.num * b.num, a.den * b.den, bits, a, b)


def _quotient(a: Ratio, b: Ratio, bits: int) -> Element:
    divisor = b.num.constant
    if not divisor:
        return None
    num = a.num * b.den * (1 if divisor > 0 else -1)
    return _ratio(num, a.den * abs(divisor), bits, a, b)


def _extreme(pick: Callable[..., Expr]) -> Callable[..., Element]:
    def run(a: Ratio, b: Ratio, bits: int) -> Element:
        den = math.lcm(a.den, b.den)
        num = pick(a.num * (den // a.den), b.num * (den // b.den))
        return Ratio(num, den, a.needs | b.needs)

    return run


def _exact(compute: Callable[..., Element]) -> Callable[..., Element]:
    """Of what was rounded once nothing more is known."""

    def run(*operands: Element, bits: int) -> Element:
        ratios = [o for o in operands if o is not None and not o.is_rounded]
        return compute(*ratios, bits=bits) if len(ratios) == len(operands) else None

    return run


def _rounded_too(compute: Callable[..., Element]) -> Callable[..., Element]:
    def run(*operands: Element, bits: int) -> Element:
        return None if None in operands else compute(*operands, bits=bits)

    return run


FUNCTIONS: Mapping[str, Callable[..., Element]] = {
    **{
        name: _rounded_too(compute)
        for name, compute in (
            ("neg", _negated),
            ("floor", _floor),
            ("ceil", _ceiling),
            ("relu", _relu),
        )
    },
    **{
        name: _exact(compute)
        for name, compute in (
            ("trunc", _integral),
            ("round", _integral),
            ("add", _sum),
            ("sub", _difference),
            ("mul", _product),
            ("div", _quotient),
            ("min", _extreme(minimum)),
            ("max", _extreme(maximum)),
        )
    },
}
"""By the names of :data:`tapeout.ir.scalars.SCALARS`; ``bits`` is the significand's width."""

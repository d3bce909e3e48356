"""Integer expressions over symbols: dimensions, loop indices and addresses share this one form.

An :class:`Expr` is a polynomial with integer coefficients over *atoms*. An atom is a
:class:`Symbol` (a dimension, a loop variable, a tile lane) or a :class:`Call` (``floordiv``,
``mod``, ``min``, ``max``) that could not be simplified away. The form is canonical, so two
expressions that differ only by algebra are equal, hash alike and print alike. Symbols carry
their range; that is what lets ``(12*i + j) // 12`` become ``i`` when ``j`` stays below 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

Monomial: TypeAlias = "tuple[Atom, ...]"
Atom: TypeAlias = "Symbol | Call"
Dim: TypeAlias = "Expr"
ExprLike: TypeAlias = "Expr | int"


@dataclass(frozen=True, slots=True)
class Symbol:
    """An integer unknown in ``[lo, hi]``; ``hi`` None is unbounded, an ``Expr`` is relative."""

    name: str
    lo: int = 0
    hi: int | Expr | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Call:
    """An irreducible ``fn(args)``; ``fn`` is a key of :data:`FUNCTIONS`."""

    fn: str
    args: tuple[Expr, ...]

    def __str__(self) -> str:
        if self.fn in ("min", "max"):
            return f"{self.fn}({', '.join(map(str, self.args))})"
        left, right = (str(a) if a.is_simple else f"({a})" for a in self.args)
        return f"({left} {INFIX[self.fn]} {right})"


INFIX = {"floordiv": "//", "mod": "%"}
FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
}


def _key(atom: Atom) -> str:
    return str(atom)


class Expr:
    """A canonical integer polynomial; build it with operators from ints and symbols."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        kept = [(m, c) for m, c in terms.items() if c]
        kept.sort(key=lambda t: (-len(t[0]), [_key(a) for a in t[0]]))
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(kept)
        self._hash = hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.constant == other
        return isinstance(other, Expr) and self.terms == other.terms

    @property
    def constant(self) -> int | None:
        """The value when no symbol occurs, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    @property
    def is_simple(self) -> bool:
        """Whether it prints as one number or one atom, without a need for parentheses."""
        if self.constant is not None:
            return self.constant >= 0
        return len(self.terms) == 1 and len(self.terms[0][0]) == 1 and self.terms[0][1] == 1

    def __int__(self) -> int:
        assert self.constant is not None, f"{self} is not a constant"
        return self.constant

    def symbols(self) -> set[Symbol]:
        """Every symbol that occurs, inside calls too."""
        found: set[Symbol] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found.add(atom)
                else:
                    found |= set[Symbol]().union(*(a.symbols() for a in atom.args))
        return found

    def __add__(self, other: ExprLike) -> Expr:
        total = dict(self.terms)
        for monomial, c in as_expr(other).terms:
            total[monomial] = total.get(monomial, 0) + c
        return Expr(total)

    def __mul__(self, other: ExprLike) -> Expr:
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in as_expr(other).terms:
                both = tuple(sorted((*left, *right), key=_key))
                total[both] = total.get(both, 0) + a * b
        return Expr(total)

    def __neg__(self) -> Expr:
        return Expr({m: -c for m, c in self.terms})

    def __sub__(self, other: ExprLike) -> Expr:
        return self + -as_expr(other)

    def __rsub__(self, other: ExprLike) -> Expr:
        return as_expr(other) - self

    def __radd__(self, other: ExprLike) -> Expr:
        return self + other

    def __rmul__(self, other: ExprLike) -> Expr:
        return self * other

    def __floordiv__(self, other: ExprLike) -> Expr:
        return _divide(self, as_expr(other))[0]

    def __rfloordiv__(self, other: ExprLike) -> Expr:
        return as_expr(other) // self

    def __mod__(self, other: ExprLike) -> Expr:
        return _divide(self, as_expr(other))[1]

    def __rmod__(self, other: ExprLike) -> Expr:
        return as_expr(other) % self

    def substitute(self, values: Mapping[Symbol, ExprLike]) -> Expr:
        """Replace symbols, and simplify again what their values decide."""
        if not values:
            return self
        total = ZERO
        for monomial, c in self.terms:
            term = as_expr(c)
            for atom in monomial:
                term = term * _substitute_atom(atom, values)
            total = total + term
        return total

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer for given symbol values; KeyError names a symbol without one."""
        total = 0
        for monomial, c in self.terms:
            term = c
            for atom in monomial:
                if isinstance(atom, Symbol):
                    term *= values[atom.name]
                else:
                    term *= FUNCTIONS[atom.fn](*(a.evaluate(values) for a in atom.args))
            total += term
        return total

    def coefficient(self, symbol: Symbol) -> Expr | None:
        """The factor of ``symbol`` if the expression is linear in it, else None."""
        total: dict[Monomial, int] = {}
        for monomial, c in self.terms:
            count = sum(a == symbol for a in monomial)
            if count > 1 or any(
                isinstance(a, Call) and symbol in Expr({(a,): 1}).symbols() for a in monomial
            ):
                return None
            if count:
                total[tuple(a for a in monomial if a != symbol)] = c
        return Expr(total)

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, c in self.terms:
            factors = [str(a) for a in monomial]
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            text += sign + "*".join(factors)
        return text

    __repr__ = __str__


def as_expr(value: ExprLike) -> Expr:
    """Lift an int; an ``Expr`` passes through."""
    return value if isinstance(value, Expr) else Expr({(): int(value)})


def symbol(name: str, lo: int = 0, hi: int | Expr | None = None) -> Expr:
    """The expression that is one symbol."""
    return Expr({(Symbol(name, lo, hi),): 1})


def as_symbol(value: Expr) -> Symbol | None:
    """The symbol when ``value`` is exactly one symbol, else None."""
    if len(value.terms) == 1 and value.terms[0][1] == 1 and len(value.terms[0][0]) == 1:
        atom = value.terms[0][0][0]
        return atom if isinstance(atom, Symbol) else None
    return None


ZERO = Expr({})
ONE = Expr({(): 1})


def product(values: Iterable[ExprLike]) -> Expr:
    """The product of all; 1 for none."""
    return reduce(lambda a, b: a * b, map(as_expr, values), ONE)


def ceildiv(a: ExprLike, b: ExprLike) -> Expr:
    """``ceil(a / b)`` for a positive ``b``."""
    return (as_expr(a) + as_expr(b) - 1) // as_expr(b)


def minimum(*values: ExprLike) -> Expr:
    """The least of all, simplified where ranges decide."""
    return _extreme("min", [as_expr(v) for v in values])


def maximum(*values: ExprLike) -> Expr:
    """The greatest of all, simplified where ranges decide."""
    return _extreme("max", [as_expr(v) for v in values])


def bounds(value: ExprLike) -> tuple[int | None, int | None]:
    """Integer bounds ``(lo, hi)`` over all symbol values; None where there is none."""
    low: int | None = 0
    high: int | None = 0
    for monomial, c in as_expr(value).terms:
        lo, hi = reduce(_times, map(_atom_bounds, monomial), (c, c))
        low = None if low is None or lo is None else low + lo
        high = None if high is None or hi is None else high + hi
    return low, high


def is_at_least(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value >= bound`` is proved for all symbol values; False means unknown."""
    difference = as_expr(value) - bound
    if _nonnegative(difference):
        return True
    relative = {s: as_expr(s.hi) for s in difference.symbols() if isinstance(s.hi, Expr)}
    falling = {
        s: hi for s, hi in relative.items() if (c := difference.coefficient(s)) and _negative(c)
    }
    return bool(falling) and is_at_least(difference.substitute(falling), 0)


def is_less(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value < bound`` is proved for all symbol values; False means unknown."""
    return is_at_least(as_expr(bound) - 1, value)


def _nonnegative(value: Expr) -> bool:
    low = bounds(value)[0]
    return low is not None and low >= 0


def _negative(value: Expr) -> bool:
    high = bounds(value)[1]
    return high is not None and high < 0


def _substitute_atom(atom: Atom, values: Mapping[Symbol, ExprLike]) -> Expr:
    if isinstance(atom, Symbol):
        return as_expr(values[atom]) if atom in values else Expr({(atom,): 1})
    args = [a.substitute(values) for a in atom.args]
    return apply(atom.fn, args)


def apply(fn: str, args: Sequence[Expr]) -> Expr:
    """Apply a function of :data:`FUNCTIONS` to expressions and simplify."""
    if fn == "floordiv":
        return args[0] // args[1]
    if fn == "mod":
        return args[0] % args[1]
    return _extreme(fn, list(args))


def _times(
    a: tuple[int | None, int | None], b: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    def wide(x: int | None, sign: float) -> float:
        return sign * math.inf if x is None else x

    corners: list[float] = []
    for x in (wide(a[0], -1), wide(a[1], 1)):
        for y in (wide(b[0], -1), wide(b[1], 1)):
            corners.append(0 if x == 0 or y == 0 else x * y)
    low, high = min(corners), max(corners)
    return (
        None if math.isinf(low) else int(low),
        None if math.isinf(high) else int(high),
    )


def _atom_bounds(atom: Atom) -> tuple[int | None, int | None]:
    if isinstance(atom, Symbol):
        return atom.lo, bounds(atom.hi)[1] if isinstance(atom.hi, Expr) else atom.hi
    limits = [bounds(a) for a in atom.args]
    if atom.fn in ("min", "max"):
        lows, highs = [lo for lo, _ in limits], [hi for _, hi in limits]
        pick = min if atom.fn == "min" else max
        known_low = [lo for lo in lows if lo is not None]
        known_high = [hi for hi in highs if hi is not None]
        needs_all_low = atom.fn == "min"
        low = pick(known_low) if known_low and (not needs_all_low or None not in lows) else None
        high = pick(known_high) if known_high and (needs_all_low or None not in highs) else None
        return low, high
    (alo, ahi), (blo, bhi) = limits
    if blo is None or blo <= 0:
        return None, None
    if atom.fn == "mod":
        return 0, None if bhi is None else bhi - 1
    low = None if alo is None else (alo // blo if alo < 0 else (0 if bhi is None else alo // bhi))
    high = None if ahi is None else (ahi // blo if ahi >= 0 else -1)
    return low, high


def _divide(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """``(a // b, a % b)`` with every part of ``a`` that ``b`` divides taken out."""
    if a.constant is not None and b.constant:
        return as_expr(a.constant // b.constant), as_expr(a.constant % b.constant)
    quotient, rest = _divide_exactly(a, b)
    if is_at_least(rest, 0) and is_less(rest, b):
        return quotient, rest
    remainder = Expr({(Call("mod", (rest, b)),): 1})
    divisor = b.constant
    if divisor is not None:
        common = reduce(math.gcd, (c for _, c in rest.terms), divisor)
        if common > 1:
            rest = Expr({m: c // common for m, c in rest.terms})
            return quotient + rest // (divisor // common), remainder
    return quotient + Expr({(Call("floordiv", (rest, b)),): 1}), remainder


def _divide_exactly(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Polynomial division by the leading term of ``b``: ``a == q*b + r``."""
    quotient, rest = ZERO, ZERO
    if not b.terms:
        return ZERO, a
    lead, lead_c = b.terms[0]
    pending = a
    while pending.terms:
        monomial, c = pending.terms[0]
        left = _remove(monomial, lead)
        if left is None or c % lead_c:
            term = Expr({monomial: c})
            rest, pending = rest + term, pending - term
            continue
        step = Expr({left: c // lead_c})
        quotient, pending = quotient + step, pending - step * b
    return quotient, rest


def _remove(monomial: Monomial, factor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _extreme(fn: str, values: list[Expr]) -> Expr:
    flat: list[Expr] = []
    for value in values:
        atom = value.terms[0][0][0] if value.is_simple and value.constant is None else None
        flat.extend(atom.args if isinstance(atom, Call) and atom.fn == fn else (value,))

    def loses(a: Expr, b: Expr) -> bool:
        return is_at_least(a, b) if fn == "min" else is_at_least(b, a)

    kept: list[Expr] = []
    for value in flat:
        if not any(loses(value, k) for k in kept):
            kept = [*(k for k in kept if not loses(k, value)), value]
    if len(kept) == 1:
        return kept[0]
    return Expr({(Call(fn, tuple(sorted(kept, key=str))),): 1})

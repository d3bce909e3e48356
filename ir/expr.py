"""Integer expressions over symbols: dimensions, loop indices and addresses share this one form.

An :class:`Expr` is a polynomial with integer coefficients over *atoms*. An atom is a
:class:`Symbol` (a dimension, a loop variable, a tile lane) or a :class:`Call` (``floordiv``,
``mod``, ``min``, ``max``) that could not be simplified away. The form is canonical, so two
expressions that differ only by algebra are equal, hash alike and print alike. Symbols carry
their range; that is what lets ``(12*i + j) // 12`` become ``i`` when ``j`` stays below 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import lru_cache, reduce
from typing import Any, TypeAlias

from tapeout.ir import interval
from tapeout.ir.interval import Range

Monomial: TypeAlias = "tuple[Atom, ...]"
Atom: TypeAlias = "Symbol | Call"
Dim: TypeAlias = "Expr"
ExprLike: TypeAlias = "Expr | int"


class Symbol:
    """An integer unknown in ``[lo, hi]``; ``hi`` None is unbounded, an ``Expr`` is relative.

    There is one object per name and range, so symbols compare by identity.
    """

    __slots__ = ("hi", "key", "lo", "name")
    name: str
    lo: int
    hi: int | Expr | None
    key: str

    def __new__(cls, name: str, lo: int = 0, hi: int | Expr | None = None) -> Symbol:
        """The symbol; its name is an identifier, so that it can stand in text and code."""
        if isinstance(hi, Expr) and hi.constant is not None:
            hi = hi.constant
        known = _SYMBOLS.get((name, lo, hi))
        if known is not None:
            return known
        assert name.isidentifier(), f"{name!r} is no name for a symbol"
        made = super().__new__(cls)
        made.name, made.lo, made.hi = name, lo, hi
        # Sorts as the name does; the range keeps symbols of one name apart.
        made.key = f"{name} {lo} {hi.key if isinstance(hi, Expr) else hi}"
        return _SYMBOLS.setdefault((name, lo, hi), made)

    def __reduce__(self) -> tuple[type[Symbol], tuple[str, int, int | Expr | None]]:
        return Symbol, (self.name, self.lo, self.hi)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Symbol({self.name!r}, {self.lo}, {self.hi})"


_SYMBOLS: dict[tuple[str, int, int | Expr | None], Symbol] = {}


class Call:
    """An irreducible ``fn(args)``; ``fn`` is a key of :data:`FUNCTIONS`."""

    __slots__ = ("_hash", "args", "fn", "key")

    def __init__(self, fn: str, args: tuple[Expr, ...]) -> None:
        self.fn = fn
        self.args = args
        self.key = f"{fn}({', '.join(a.key for a in args)})"
        self._hash = hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Call) and self.key == other.key)

    def __str__(self) -> str:
        if self.fn in ("min", "max"):
            return f"{self.fn}({', '.join(map(str, self.args))})"
        left, right = (str(a) if a.is_simple else f"({a})" for a in self.args)
        return f"({left} {INFIX[self.fn]} {right})"

    __repr__ = __str__


INFIX = {"floordiv": "//", "mod": "%"}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "floordiv": int.__floordiv__,
    "mod": int.__mod__,
    "min": min,
    "max": max,
}


def _key(atom: Atom) -> str:
    return atom.key


def _term_order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    """Graded, then by name: an order that multiplication keeps, as division needs."""
    return -len(term[0]), [a.key for a in term[0]]


class Expr:
    """A canonical integer polynomial; build it with operators from ints and symbols."""

    __slots__ = ("_hash", "_key", "_limits", "_text", "constant", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        kept = [t for t in terms.items() if t[1]]
        if len(kept) > 1:
            kept.sort(key=_term_order)
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(kept)
        # The value when no symbol occurs, else None.
        self.constant: int | None = None
        if not kept:
            self.constant = 0
        elif len(kept) == 1 and not kept[0][0]:
            self.constant = kept[0][1]
        self._hash: int | None = None
        self._key: str | None = None
        self._limits: Range | None = None
        self._text: str | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.terms if self.constant is None else self.constant)
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, int):
            return self.constant == other
        return isinstance(other, Expr) and self.terms == other.terms

    @property
    def key(self) -> str:
        """A text that differs wherever expressions differ, the ranges of symbols included."""
        if self._key is None:
            self._key = " + ".join(f"{c}*[{'; '.join(a.key for a in m)}]" for m, c in self.terms)
        return self._key

    @property
    def limits(self) -> Range:
        """What :func:`bounds` tells."""
        if self._limits is None:
            self._limits = _summed_bounds(self)
        return self._limits

    @property
    def is_simple(self) -> bool:
        """Whether it prints as one number or one atom, without a need for parentheses."""
        if self.constant is not None:
            return self.constant >= 0
        return self.atom is not None

    @property
    def atom(self) -> Atom | None:
        """The atom when the expression is exactly one, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    def __int__(self) -> int:
        assert self.constant is not None, f"{self} is not a constant"
        return self.constant

    def symbols(self) -> Set[Symbol]:
        """Every symbol that occurs, inside calls too, in the order of the text."""
        found: dict[Symbol, None] = {}
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found[atom] = None
                else:
                    for argument in atom.args:
                        found.update(dict.fromkeys(argument.symbols()))
        return found.keys()

    def __add__(self, other: ExprLike) -> Expr:
        right = as_expr(other).terms
        if not right:
            return self
        total = dict(self.terms)
        for monomial, c in right:
            total[monomial] = total.get(monomial, 0) + c
        return _whole_again(total)

    def __mul__(self, other: ExprLike) -> Expr:
        factor = as_expr(other)
        if factor.constant is not None:
            return self._scaled(factor.constant)
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in factor.terms:
                both = _joined(left, right)
                total[both] = total.get(both, 0) + a * b
        return _whole_again(total)

    def _scaled(self, factor: int) -> Expr:
        return self if factor == 1 else Expr({m: c * factor for m, c in self.terms})

    def __neg__(self) -> Expr:
        return self._scaled(-1)

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
        if not values or self.constant is not None:
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
            count = monomial.count(symbol)
            if count > 1 or any(
                isinstance(a, Call) and any(symbol in x.symbols() for x in a.args) for a in monomial
            ):
                return None
            if count:
                total[tuple(a for a in monomial if a is not symbol)] = c
        return Expr(total)

    def __str__(self) -> str:
        if self._text is None:
            self._text = self._written()
        return self._text

    def _written(self) -> str:
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
    return value if isinstance(value, Expr) else _constant(int(value))


@lru_cache(maxsize=4096)
def _constant(value: int) -> Expr:
    return Expr({(): value})


def symbol(name: str, lo: int = 0, hi: int | Expr | None = None) -> Expr:
    """The expression that is one symbol."""
    return _of_atom(Symbol(name, lo, hi))


def as_symbol(value: Expr) -> Symbol | None:
    """The symbol when ``value`` is exactly one symbol, else None."""
    atom = value.atom
    return atom if isinstance(atom, Symbol) else None


def _of_atom(atom: Atom) -> Expr:
    return Expr({(atom,): 1})


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
    return _extreme("min", tuple(map(as_expr, values)))


def maximum(*values: ExprLike) -> Expr:
    """The greatest of all, simplified where ranges decide."""
    return _extreme("max", tuple(map(as_expr, values)))


def apply(fn: str, args: Sequence[Expr]) -> Expr:
    """Apply a function of :data:`FUNCTIONS` to expressions and simplify."""
    if fn == "floordiv":
        return args[0] // args[1]
    if fn == "mod":
        return args[0] % args[1]
    return _extreme(fn, tuple(args))


def bounds(value: ExprLike) -> Range:
    """Integer bounds ``(lo, hi)`` over all symbol values; None where there is none."""
    return as_expr(value).limits


def is_at_least(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value >= bound`` is proved for all symbol values; False means unknown."""
    return _is_nonnegative(as_expr(value) - bound)


def is_less(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value < bound`` is proved for all symbol values; False means unknown."""
    return _is_nonnegative(as_expr(bound) - value - 1)


@lru_cache(maxsize=65536)
def _is_nonnegative(value: Expr) -> bool:
    if is_bounded_below(value):
        return True
    if not any(isinstance(atom, Call) for monomial, _ in value.terms for atom in monomial):
        return False
    # Proofs are about expressions: this module must be there before that one.
    from tapeout.ir.proofs import proves_by_cases

    return proves_by_cases(value)  # pyright: ignore[reportArgumentType]  (Expr by its two names)


@lru_cache(maxsize=65536)
def is_bounded_below(value: Expr) -> bool:
    """Whether bounds of symbols and calls, each by itself, prove ``value >= 0``."""
    if interval.is_at_least_zero(value.limits):
        return True
    limits = {s: hi for s in value.symbols() if (hi := _least_at(value, s)) is not None}
    return bool(limits) and is_bounded_below(value.substitute(limits))


def _least_at(value: Expr, symbol: Symbol) -> ExprLike | None:
    """The limit of a symbol at which ``value`` is least, where bounds of terms do not see it.

    That is an upper limit which is relative, and a lower one of a factor: ``n*s >= n``.
    """
    factor = value.coefficient(symbol)
    if factor is None or factor == 0:
        return None
    if isinstance(symbol.hi, Expr) and _is_negative(factor):
        return symbol.hi
    is_product = factor.constant is None
    return symbol.lo if is_product and interval.is_at_least_zero(factor.limits) else None


def _is_negative(value: Expr) -> bool:
    high = value.limits[1]
    return high is not None and high < 0


def _substitute_atom(atom: Atom, values: Mapping[Symbol, ExprLike]) -> Expr:
    if isinstance(atom, Symbol):
        return as_expr(values[atom]) if atom in values else _of_atom(atom)
    return apply(atom.fn, [a.substitute(values) for a in atom.args])


def _joined(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    return tuple(sorted((*left, *right), key=_key))


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _whole_again(total: dict[Monomial, int]) -> Expr:
    """``d*(x // d) + x % d = x``, applied wherever both parts stand in a sum."""
    for monomial, c in total.items():
        for atom in monomial:
            if not isinstance(atom, Call) or atom.fn != "mod" or not c:
                continue
            x, d = atom.args
            quotient = (x // d).atom
            if quotient is None or d.constant is None:
                continue
            rest = _without(monomial, (atom,))
            assert rest is not None
            partner = _joined(rest, (quotient,))
            if total.get(partner) == c * d.constant:
                left = {m: k for m, k in total.items() if m not in (monomial, partner)}
                return _whole_again(left) + Expr({rest: c}) * x
    return Expr(total)


def _summed_bounds(value: Expr) -> Range:
    low: int | None = 0
    high: int | None = 0
    for monomial, c in value.terms:
        lo, hi = reduce(interval.times, map(_atom_bounds, monomial), (c, c))
        low = None if low is None or lo is None else low + lo
        high = None if high is None or hi is None else high + hi
    return low, high


def _atom_bounds(atom: Atom) -> Range:
    if isinstance(atom, Symbol):
        return atom.lo, atom.hi.limits[1] if isinstance(atom.hi, Expr) else atom.hi
    limits = [a.limits for a in atom.args]
    if atom.fn in ("min", "max"):
        return interval.extreme(atom.fn == "min", limits)
    return (interval.remainder if atom.fn == "mod" else interval.quotient)(*limits)


@lru_cache(maxsize=65536)
def _divide(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """``(a // b, a % b)`` with every part of ``a`` that ``b`` divides taken out."""
    quotient, rest = _divide_exactly(a, b)
    if rest.constant is not None and b.constant:
        return quotient + rest.constant // b.constant, as_expr(rest.constant % b.constant)
    if is_at_least(rest, 0) and is_less(rest, b):
        return quotient, rest
    if b.constant is not None and b.constant > 0:
        if rest.terms[-1][0] == () and rest.terms[-1][1] < 0:
            # (x - 1) // d = (x + d - 1) // d - 1: one form for all that differ by multiples of d
            quotient, rest = quotient - 1, rest + b
        return quotient + _quotient(rest, b.constant), _remainder(rest, b.constant)
    call = (rest, b)
    return quotient + _of_atom(Call("floordiv", call)), _of_atom(Call("mod", call))


def _quotient(a: Expr, d: int) -> Expr:
    """``a // d`` of what ``d > 0`` does not divide."""
    common = reduce(math.gcd, (c for _, c in a.terms), d)
    if common > 1:
        # (g*x) // (g*d) = x // d
        return Expr({m: c // common for m, c in a.terms}) // (d // common)
    inner = _only_call(a)
    if inner is not None:
        call, shift = inner
        x, divisor = call.args
        if divisor.constant is not None and divisor.constant > 0:
            if call.fn == "floordiv":
                # (x // p + s) // d = (x + s*p) // (p*d)
                return (x + divisor * shift) // (divisor * d)
            if shift == 0 and divisor.constant % d == 0:
                # (x % (p*d)) // d = (x // d) % p
                return (x // d) % (divisor.constant // d)
    return _of_atom(Call("floordiv", (a, as_expr(d))))


def _remainder(a: Expr, d: int) -> Expr:
    """``a % d`` of what ``d > 0`` does not divide."""
    # (c*(x % p) + y) % d = (c*x + y) % d when d divides c*p
    for monomial, c in a.terms:
        for atom in monomial:
            if isinstance(atom, Call) and atom.fn == "mod":
                x, p = atom.args
                if p.constant is not None and (c * p.constant) % d == 0:
                    rest = _without(monomial, (atom,))
                    assert rest is not None
                    return (a - Expr({monomial: c}) + Expr({rest: c}) * x) % d
    return _of_atom(Call("mod", (a, as_expr(d))))


def _only_call(value: Expr) -> tuple[Call, int] | None:
    """``(call, s)`` when ``value`` is ``call + s`` for a floordiv or mod and a number."""
    call: Call | None = None
    shift = 0
    for monomial, c in value.terms:
        if not monomial:
            shift = c
        elif call is None and c == 1 and len(monomial) == 1 and isinstance(monomial[0], Call):
            call = monomial[0]
        else:
            return None
    return None if call is None or call.fn in ("min", "max") else (call, shift)


def _divide_exactly(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Polynomial division by the leading term of ``b``: ``a == q*b + r``."""
    if not b.terms:
        return ZERO, a
    if b.constant is not None:
        d = b.constant
        taken = {m: _toward_zero(c, d) for m, c in a.terms}
        return Expr(taken), Expr({m: c - taken[m] * d for m, c in a.terms})
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    lead, lead_c = b.terms[0]
    pending = a
    while pending.terms:
        monomial, c = pending.terms[0]
        left = _without(monomial, lead)
        if left is None or c % lead_c:
            rest[monomial] = c
            pending = Expr(dict(pending.terms[1:]))
            continue
        quotient[left] = c // lead_c
        pending = _subtracted(pending, left, c // lead_c, b)
    return Expr(quotient), Expr(rest)


def _toward_zero(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _subtracted(a: Expr, monomial: Monomial, factor: int, b: Expr) -> Expr:
    total = dict(a.terms)
    for other, c in b.terms:
        both = _joined(monomial, other)
        total[both] = total.get(both, 0) - factor * c
    return Expr(total)


def _extreme(fn: str, values: tuple[Expr, ...]) -> Expr:
    flat: list[Expr] = []
    for value in values:
        atom = value.atom
        flat.extend(atom.args if isinstance(atom, Call) and atom.fn == fn else (value,))

    def loses(a: Expr, b: Expr) -> bool:
        return is_at_least(a, b) if fn == "min" else is_at_least(b, a)

    kept: list[Expr] = []
    for value in flat:
        if not any(loses(value, k) for k in kept):
            kept = [*(k for k in kept if not loses(k, value)), value]
    if len(kept) == 1:
        return kept[0]
    return _of_atom(Call(fn, tuple(sorted(kept, key=lambda e: e.key))))

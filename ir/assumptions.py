"""Relations between sizes that operators take for granted, and who listens to them.

``infer`` refuses sizes that can never go together. Where it cannot decide, because a symbol is
in play, it goes on *as if* they did, and says so here: whoever listens (:mod:`tapeout.ir.guards`)
learns what has to be checked once the symbols have values. Generated code stays inside of its
buffers only where all of it holds.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from tapeout.ir.expr import Atom, Call, Expr, ExprLike, Symbol, as_expr, is_at_least
from tapeout.ir.proofs import proves_at_least

Relation = Literal["==", ">="]


@dataclass(frozen=True)
class Guard:
    """``left relation right`` must hold between sizes; ``where`` names what relies on it.

    ``fix`` says what a caller may do who meant something else.
    """

    relation: Relation
    left: Expr
    right: Expr
    where: str = ""
    fix: str = ""

    @property
    def text(self) -> str:
        """``S == T``."""
        return f"{self.left} {self.relation} {self.right}"

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols of both sides, in the order of the text."""
        return tuple(dict.fromkeys([*self.left.symbols(), *self.right.symbols()]))

    def holds(self, values: Mapping[str, int]) -> bool:
        """Whether it holds under values of all its symbols."""
        left, right = self.left.evaluate(values), self.right.evaluate(values)
        return left == right if self.relation == "==" else left >= right

    def proved(self) -> bool:
        """Whether ranges alone make it hold."""
        if self.relation == ">=":
            return proves_at_least(self.left, self.right)
        return self.left == self.right

    def substitute(self, values: Mapping[Symbol, ExprLike]) -> Guard:
        """The same with symbols replaced, simplified again."""
        left, right = self.left.substitute(values), self.right.substitute(values)
        return guard(self.relation, left, right, self.where, self.fix)


def guard(
    relation: Relation, left: ExprLike, right: ExprLike, where: str = "", fix: str = ""
) -> Guard:
    """A guard in its normal form: nothing negative on either side, no common factor.

    So guards that say the same are the same, whichever way they were found.
    """
    difference = _reduced(as_expr(left) - right, relation)
    remainder = _remainder(difference) if relation == "==" else None
    terms = dict((remainder or difference).terms)
    if relation == "==" and terms and next(iter(terms.values())) < 0:
        terms = {m: -c for m, c in terms.items()}
    plus = Expr({m: c for m, c in terms.items() if c > 0})
    minus = Expr({m: -c for m, c in terms.items() if c < 0})
    return Guard(relation, plus, minus, where, fix)


def _reduced(difference: Expr, relation: Relation) -> Expr:
    """``difference`` without factors that do not change how it compares with 0."""
    factors = [c for m, c in difference.terms if m]
    if not factors:
        return difference
    common = reduce(math.gcd, factors, 0)
    constant = dict(difference.terms).get((), 0)
    if relation == ">=":
        # g*x + c >= 0 says the same as x + c // g >= 0
        terms = {m: c // common for m, c in difference.terms}
    elif constant % common == 0:
        terms = {m: c // common for m, c in difference.terms}
    else:
        terms = dict(difference.terms)
    shared = _shared(list(terms))
    reduced = Expr({_without(m, shared): c for m, c in terms.items()})
    return _undivided(reduced) if relation == ">=" else reduced


def _remainder(difference: Expr) -> Expr | None:
    """``x % d`` for ``x - d*(x // d)``: that ``d`` divides ``x`` is said by the remainder."""
    calls = [a for m, _ in difference.terms for a in m if isinstance(a, Call)]
    for call in calls:
        x, d = call.args[0], call.args[-1]
        if call.fn == "floordiv" and difference in (x - d * (x // d), d * (x // d) - x):
            return x % d
    return None


def _shared(monomials: list[tuple[Atom, ...]]) -> list[Atom]:
    """Symbols above 0 that every term has as a factor."""
    first, *others = monomials
    found: list[Atom] = []
    for atom in first:
        positive = isinstance(atom, Symbol) and atom.lo >= 1
        count = found.count(atom) + 1
        if positive and all(m.count(atom) >= count for m in others):
            found.append(atom)
    return found


def _without(monomial: tuple[Atom, ...], shared: list[Atom]) -> tuple[Atom, ...]:
    left = list(monomial)
    for atom in shared:
        left.remove(atom)
    return tuple(left)


def _undivided(difference: Expr) -> Expr:
    """``x // d + c >= 0`` says the same as ``x + c*d >= 0``."""
    terms = dict(difference.terms)
    constant = terms.pop((), 0)
    [(monomial, factor), *others] = list(terms.items()) or [((), 0)]
    if others or factor != 1 or len(monomial) != 1:
        return difference
    call = monomial[0]
    if not isinstance(call, Call) or call.fn != "floordiv":
        return difference
    x, d = call.args
    return x + d * constant if is_at_least(d, 1) else difference


_LISTENER: ContextVar[list[Guard] | None] = ContextVar("assumptions", default=None)


@contextmanager
def listening() -> Generator[list[Guard]]:
    """All that is assumed inside the context, in order, what ranges prove left out."""
    heard: list[Guard] = []
    token = _LISTENER.set(heard)
    try:
        yield heard
    finally:
        _LISTENER.reset(token)


def may_equal(a: ExprLike, b: ExprLike, fix: str = "") -> bool:
    """Whether two sizes can be equal. True is an assumption, unless they are the same."""
    left, right = as_expr(a), as_expr(b)
    if left == right:
        return True
    if is_at_least(left - right, 1) or is_at_least(right - left, 1):
        return False
    _assume(guard("==", left, right, fix=fix))
    return True


def may_be_at_least(a: ExprLike, b: ExprLike, fix: str = "") -> bool:
    """Whether ``a >= b`` is possible. True is an assumption, unless it is proved."""
    left, right = as_expr(a), as_expr(b)
    if is_at_least(right - left, 1):
        return False
    if _LISTENER.get() is not None:
        _assume(guard(">=", left, right, fix=fix))
    return True


def may_divide(a: ExprLike, b: ExprLike) -> bool:
    """Whether ``b >= 1`` can divide ``a``. True is an assumption, unless it is proved."""
    return may_be_at_least(b, 1) and may_equal(as_expr(a) % b, 0)


def _assume(assumed: Guard) -> None:
    heard = _LISTENER.get()
    if heard is not None and not assumed.proved():
        heard.append(assumed)

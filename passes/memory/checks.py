"""Which guards a plan still has to check, and where: once at the start, or before a step.

A guard of the entry's own block that speaks of input sizes alone is checked when a call begins.
All others, because data decides a symbol of theirs or whether the run comes by at all, are checked
right before the step that relies on them, unless that was done and nothing changed since.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence, Set
from contextlib import contextmanager

from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.guards import Guard, minimal


class Checks:
    """What is known of sizes at the place that the planner has come to."""

    def __init__(self, late: Set[str]) -> None:
        self.late = late
        self._early: list[Guard] = []
        self._checked: set[Guard] = set()
        # What symbols were last bound to in this block.
        self._equal: dict[Symbol, Expr] = {}
        # Symbols that were given values in this block, those inside of it included.
        self._bound: set[Symbol] = set()
        self._depth = 0

    @property
    def early(self) -> list[Guard]:
        """What has to be checked when a call begins."""
        return minimal(self._early)

    def missing(self, relied_on: Iterable[Guard]) -> list[Guard]:
        """The guards that have to be checked here and now; they count as checked from now on."""
        found: list[Guard] = []
        for each in relied_on:
            if each in self._checked or each.substitute(self._equal).proved():
                continue
            self._checked.add(each)
            if self._depth == 0 and not self.is_late(each):
                self._early.append(each)
            else:
                found.append(each)
        return found

    def is_late(self, each: Guard) -> bool:
        """Whether data decides a symbol of a guard."""
        return any(s.name in self.late for s in each.symbols)

    def bind(self, symbols: Sequence[Symbol], values: Sequence[Expr] | None = None) -> None:
        """Symbols have got new values: those of expressions, or what data says."""
        changed = set(symbols)
        self._bound |= changed
        self._forget(changed)
        for symbol, value in zip(symbols, values or (), strict=values is not None):
            # ``n = n + 1`` speaks of the value before.
            if not value.symbols() & changed:
                self._equal[symbol] = value

    def _forget(self, changed: Set[Symbol]) -> None:
        self._checked = {g for g in self._checked if not changed & set(g.symbols)}
        self._equal = {
            s: e for s, e in self._equal.items() if s not in changed and not e.symbols() & changed
        }

    @contextmanager
    def inside(self) -> Generator[None]:
        """A block that may run or not, or more than once."""
        checked, equal, bound = self._checked, self._equal, self._bound
        # What a later turn of a loop binds is not what was checked before the first.
        self._checked = {g for g in checked if not self.is_late(g)}
        self._equal, self._bound = {}, set()
        self._depth += 1
        yield
        self._depth -= 1
        changed = self._bound
        self._checked, self._equal, self._bound = checked, equal, bound | changed
        self._forget(changed)

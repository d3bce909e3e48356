"""torch's symbolic integers as expressions: names, ranges, sympy trees."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy
import torch

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import (
    Expr,
    Symbol,
    as_expr,
    as_symbol,
    bounds,
    ceildiv,
    maximum,
    minimum,
    symbol,
)

Range = int | tuple[int, int | None]
"""A fixed size, or the least and the greatest (None: no limit)."""

NO_LIMIT = 1 << 40
"""A greatest size from here on is torch's way of saying that there is none."""


_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,19}")
_RESERVED = {"min", "max", "floordiv", "mod"}
_GENERATED = re.compile(r"[dnt][0-9]+")


class Sizes:
    """Gives every symbol of an exported program its expression.

    ``ranges``: those of the program, by torch's symbol. ``names``: what the user calls a symbol.
    ``dims``: ranges or sizes that the user gives, by either name; they lie inside of the program's.
    """

    def __init__(
        self,
        ranges: Mapping[sympy.Symbol, Any],
        names: Mapping[str, str] | None = None,
        dims: Mapping[str, Range] | None = None,
    ) -> None:
        self._names = dict(names or {})
        self._exported = {str(s): _range(r) for s, r in ranges.items() if s.is_symbol}
        self._asked = dict(dims or {})
        self._made: dict[str, Expr] = {}
        self._bound = set[Symbol]()
        self._count = 0
        self._check_asked()

    def of(self, value: Any) -> Expr:
        """The expression of an integer, a ``SymInt`` or a sympy tree; E0402 for what has none."""
        if isinstance(value, torch.SymInt):
            value = value.node.expr
        if isinstance(value, int | sympy.Integer):
            return as_expr(int(value))
        if isinstance(value, sympy.Symbol):
            return self._symbol(str(value))
        build = _BUILD.get(type(value).__name__)
        if build is None:
            raise CompileError(
                "E0402",
                "a size is computed in a way that has no support",
                [("size", str(value)), ("function", type(value).__name__)],
                "compute it from sizes with + - * // and %, or export with it fixed",
            )
        return build(*map(self.of, value.args))

    def dims(self, values: Any) -> tuple[Expr, ...]:
        """A shape."""
        return tuple(self.of(v) for v in values)

    def tell(self, dims: Iterable[Expr]) -> None:
        """Note that the sizes of inputs tell their symbols."""
        self._bound.update(s for d in dims for s in d.symbols())

    def bind(self, size: Expr) -> bool:
        """Note that a size gets its value here; False where it has one, or is no bare symbol."""
        known = as_symbol(size)
        if known is None or known in self._bound:
            return False
        self._bound.add(known)
        return True

    def decide(self, dims: Sequence[Expr], limit: Expr) -> Expr:
        """The symbol among ``dims`` that an operator decides; a new one where there is none."""
        decided = next((d for d in dims if self.bind(d)), None)
        return self.fresh(bounds(limit)[1]) if decided is None else decided

    def fresh(self, hi: int | None = None) -> Expr:
        """A new symbol for a size that data decides."""
        self._count += 1
        made = symbol(f"n{self._count - 1}", 0, hi)
        self.bind(made)
        return made

    def unbound(self, dims: Iterable[Expr]) -> list[str]:
        """The symbols that nothing has given a value so far."""
        return [str(s) for d in dims for s in d.symbols() if s not in self._bound]

    def _symbol(self, name: str) -> Expr:
        if name not in self._made:
            lo, hi = self._exported.get(name, (0, None))
            asked = self._asked.get(self._names.get(name, name), self._asked.get(name))
            if isinstance(asked, int):
                asked = (asked, asked)
            if asked is not None:
                lo, hi = asked
            self._made[name] = as_expr(lo) if lo == hi else symbol(self._spelt(name), lo, hi)
        return self._made[name]

    def _spelt(self, name: str) -> str:
        """A symbol's name in the module: the user's or torch's, if it is a short identifier."""
        for each in (self._names.get(name, name), name):
            if _SAFE.fullmatch(each) and each not in _RESERVED and not _GENERATED.fullmatch(each):
                return each
        return f"d{len(self._made)}"

    def _check_asked(self) -> None:
        known = {self._names.get(n, n): r for n, r in self._exported.items()} | self._exported
        for name, given in self._asked.items():
            lo, hi = (given, given) if isinstance(given, int) else given
            if name not in known:
                raise CompileError(
                    "E0103",
                    f"the program has no dimension {name!r}",
                    [("known", ", ".join(sorted(known)) or "none: every size is fixed")],
                    "name a dimension that was dynamic when the model was exported",
                )
            least, most = known[name]
            if lo < least or (most is not None and (hi is None or hi > most)) or (hi or lo) < lo:
                raise CompileError(
                    "E0103",
                    f"dimension {name!r} was exported for another range",
                    [("exported", _text(least, most)), ("given", _text(lo, hi))],
                    "stay inside of it, or export with a wider torch.export.Dim",
                )


def _range(values: Any) -> tuple[int, int | None]:
    """Both ends of torch's ``ValueRanges``; its infinities are no integers."""
    lo, hi = values.lower, values.upper
    least = int(lo) if isinstance(lo, sympy.Integer | int) else -NO_LIMIT
    most = int(hi) if isinstance(hi, sympy.Integer | int) else NO_LIMIT
    return least, most if most < NO_LIMIT else None


def _text(lo: int, hi: int | None) -> str:
    return f"{lo}.." if hi is None else f"{lo}..{hi}"


def _add(*values: Expr) -> Expr:
    return sum(values, as_expr(0))


def _multiply(*values: Expr) -> Expr:
    made = as_expr(1)
    for value in values:
        made = made * value
    return made


def _power(base: Expr, exponent: Expr) -> Expr:
    count = exponent.constant
    if count is None or count < 0:
        raise CompileError("E0402", "a size is a power with an open exponent", (), "export again")
    return _multiply(*[base] * count)


def _divide(a: Expr, b: Expr) -> Expr:
    return a // b


def _modulo(a: Expr, b: Expr) -> Expr:
    return a % b


_BUILD: dict[str, Callable[..., Expr]] = {
    "Add": _add,
    "Mul": _multiply,
    "Pow": _power,
    "PowByNatural": _power,
    "FloorDiv": _divide,
    "CleanDiv": _divide,
    "Mod": _modulo,
    "PythonMod": _modulo,
    "CeilDiv": ceildiv,
    "Max": maximum,
    "Min": minimum,
}

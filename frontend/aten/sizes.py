"""torch's symbolic integers as expressions: names, ranges, sympy trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy
import torch

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, as_expr, ceildiv, maximum, minimum, symbol

Range = int | tuple[int, int | None]
"""A fixed size, or the least and the greatest (None: no limit)."""

NO_LIMIT = 1 << 40
"""A greatest size from here on is torch's way of saying that there is none."""


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
        self._exported = {str(s): _range(r) for s, r in ranges.items()}
        self._asked = dict(dims or {})
        self._made: dict[str, Expr] = {}
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

    def decided(self, value: Any) -> bool:
        """Whether data decides a size: torch calls such symbols unbacked, ``u0``."""
        return any(str(s).startswith("u") for s in getattr(value.node.expr, "free_symbols", ()))

    def _symbol(self, name: str) -> Expr:
        if name not in self._made:
            lo, hi = self._exported.get(name, (0, None))
            asked = self._asked.get(self._names.get(name, name), self._asked.get(name))
            if isinstance(asked, int):
                asked = (asked, asked)
            if asked is not None:
                lo, hi = asked
            made = as_expr(lo) if lo == hi else symbol(self._names.get(name, name), lo, hi)
            self._made[name] = made
        return self._made[name]

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
    least = int(lo) if isinstance(lo, sympy.Integer | int) else 0
    most = int(hi) if isinstance(hi, sympy.Integer | int) else NO_LIMIT
    return max(least, 0), most if most < NO_LIMIT else None


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

"""Dimensions of a graph's inputs: ranges that the user gives, generated names for the IR."""

import re
from collections.abc import Iterable, Mapping

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.view import Dim
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, Symbol, as_expr, symbol

Range = int | tuple[int, int | None]
"""A fixed size, or the least and the greatest (None: no limit)."""

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,19}")
_RESERVED = {"min", "max", "floordiv", "mod"}
_GENERATED = re.compile(r"[dnt][0-9]+")


class Symbols:
    """Gives every named or unknown dimension its symbol; ``names`` maps symbols to the file's.

    A dimension without a given range lies in ``[1, inf)``: an empty one is a promise that few
    models keep, so it has to be asked for, ``{"batch": (0, 8)}``.
    """

    def __init__(self, dims: Mapping[str, Range], limits: Mapping[str, int] | None = None) -> None:
        """Take ranges by the file's names, and limits that the model implies by symbol."""
        self._limits = dict(limits or {})
        self.implied: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self._ranges = dict(dims)
        self._by_name: dict[str, Expr] = {}
        self._count = 0

    def of(self, dim: Dim) -> Expr:
        """The expression for one dimension of an input: equal names give equal symbols."""
        if isinstance(dim, int):
            return as_expr(dim)
        if not dim:
            name = f"d{self._count}"
            made = self.fresh("d", 1, self._limits.get(name))
            self.names[name] = name
            return made
        if dim not in self._by_name:
            self._by_name[dim] = self._named(dim)
        return self._by_name[dim]

    def fresh(self, prefix: str, lo: int = 0, hi: "int | Expr | None" = None) -> Expr:
        """A new symbol: ``d`` for an input's unknown size, ``n`` for one that data decides."""
        name = f"{prefix}{self._count}"
        self._count += 1
        return symbol(name, lo, hi)

    def asked(self, name: str) -> int | None:
        """The greatest value that the user gave for a symbol."""
        given = self._ranges.get(self.names.get(name, ""))
        return given[1] if isinstance(given, tuple) else None

    def imply(self, limits: Iterable[tuple[Symbol, int]]) -> None:
        """Note greatest values of inputs' open sizes, under which more of the graph is known."""
        for each, limit in limits:
            if each.name in self.names:
                self.implied[each.name] = min(limit, self.implied.get(each.name, limit))

    def check_used(self) -> None:
        """E0103 when a range was given for a dimension that no input has."""
        unused = sorted(set(self._ranges) - set(self._by_name))
        if unused:
            raise CompileError(
                "E0103",
                f"the model has no dimension {quoted(unused[0])}",
                [("known", ", ".join(quoted(n) for n in sorted(self._by_name)) or "none")],
                "name a dimension that an input of the model has",
            )

    def _named(self, name: str) -> Expr:
        given = self._ranges.get(name, (1, None))
        if isinstance(given, int):
            given = (given, given)
        lo, hi = given
        if lo < 0 or (hi is not None and hi < lo):
            raise CompileError(
                "E0103",
                f"dimension {quoted(name)} has an empty or negative range",
                [("given", f"{lo}..{'' if hi is None else hi}")],
                "give a range LO..HI with 0 <= LO <= HI",
            )
        if lo == hi:
            return as_expr(lo)
        short = name if self._is_safe(name) else f"d{self._count}"
        limit = self._limits.get(short)
        hi = limit if hi is None else hi
        made = symbol(name, lo, hi) if short == name else self.fresh("d", lo, hi)
        self.names[str(made)] = name
        return made

    def _is_safe(self, name: str) -> bool:
        return bool(_SAFE.fullmatch(name)) and not (name in _RESERVED or _GENERATED.fullmatch(name))

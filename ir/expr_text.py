"""Expressions from text: the inverse of ``str(expr)``, by Python's own expression grammar."""

import ast
from collections.abc import Iterator, Mapping

from tapeout.ir.expr import Expr, Symbol, apply, as_expr, symbol

OPERATORS: Mapping[type[ast.operator], str] = {ast.FloorDiv: "floordiv", ast.Mod: "mod"}


def parse_exprs(text: str, symbols: Mapping[str, Expr] | None = None) -> tuple[Expr, ...]:
    """Parse ``"B, S + 1, 384"``; names not in ``symbols`` become symbols in ``[0, inf)``.

    Raises ValueError with the offending text for anything outside ``+ - * // % min max``.
    """
    if not text.strip():
        return ()
    tree = ast.parse(f"({text},)", mode="eval").body
    assert isinstance(tree, ast.Tuple), f"{text!r} did not parse as a list"
    return tuple(_build(node, symbols or {}) for node in tree.elts)


def parse_ranges(text: str) -> dict[str, Expr]:
    """Parse ``"B=1..8 S=1.. i=0..S-1"`` to symbols with their ranges.

    A limit may use the symbols before it.
    """
    found: dict[str, Expr] = {}
    for part in text.split():
        name, _, limits = part.partition("=")
        lo, _, hi = limits.partition("..")
        found[name] = symbol(name, int(lo), parse_exprs(hi, found)[0] if hi else None)
    return found


def ranges_text(exprs: tuple[Expr, ...]) -> str:
    """The ``B=1..8`` text of every symbol in ``exprs`` whose range is not the default."""
    symbols = sorted({s for e in exprs for s in e.symbols()}, key=_key)
    ordered = dict.fromkeys(s for symbol in symbols for s in _chain(symbol))
    shown = [s for s in ordered if s.lo != 0 or s.hi is not None]
    return " ".join(f"{s.name}={s.lo}..{_limit_text(s.hi)}" for s in shown)


def _key(value: Symbol) -> str:
    return value.key


def _chain(value: Symbol) -> Iterator[Symbol]:
    """The symbols that the limit of ``value`` uses, then ``value``."""
    if isinstance(value.hi, Expr):
        for inner in sorted(value.hi.symbols(), key=_key):
            yield from _chain(inner)
    yield value


def _limit_text(limit: int | Expr | None) -> str:
    return "" if limit is None else str(limit).replace(" ", "")


def _build(node: ast.expr, symbols: Mapping[str, Expr]) -> Expr:
    match node:
        case ast.Constant(value=int(value)):
            return as_expr(value)
        case ast.Name(id=name):
            return symbols.get(name) or symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_build(operand, symbols)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _build(left, symbols), _build(right, symbols)
            if isinstance(op, ast.Add):
                return a + b
            if isinstance(op, ast.Sub):
                return a - b
            if isinstance(op, ast.Mult):
                return a * b
            if type(op) in OPERATORS:
                return apply(OPERATORS[type(op)], [a, b])
        case ast.Call(func=ast.Name(id="min" | "max" as fn), args=args):
            return apply(fn, [_build(a, symbols) for a in args])
        case _:
            pass
    raise ValueError(f"{ast.unparse(node)!r} is not a dimension expression")

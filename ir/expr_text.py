"""Expressions from text: the inverse of ``str(expr)``, by Python's own expression grammar."""

import ast
from collections.abc import Mapping

from tapeout.ir.expr import Expr, apply, as_expr, symbol

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
    """Parse ``"B=1..8 S=1.."`` to symbols with their ranges."""
    found: dict[str, Expr] = {}
    for part in text.split():
        name, _, limits = part.partition("=")
        lo, _, hi = limits.partition("..")
        found[name] = symbol(name, int(lo), int(hi) if hi else None)
    return found


def ranges_text(exprs: tuple[Expr, ...]) -> str:
    """The ``B=1..8`` text of every symbol in ``exprs`` whose range is not the default."""
    symbols = sorted(set().union(*(e.symbols() for e in exprs)), key=lambda s: s.name)
    shown = [s for s in symbols if s.lo != 0 or s.hi is not None]
    return " ".join(f"{s.name}={s.lo}..{'' if s.hi is None else s.hi}" for s in shown)


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

"""Sizes written as text: parsed and walked, so that text from a file never runs."""

import ast
from collections.abc import Callable, Mapping

MAX_TEXT = 10_000
MAX_BITS = 256

BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: int.__add__,
    ast.Sub: int.__sub__,
    ast.Mult: int.__mul__,
    ast.FloorDiv: int.__floordiv__,
    ast.Mod: int.__mod__,
}
CALLS = {"min": min, "max": max}


def evaluate_text(text: str, symbols: Mapping[str, int]) -> int:
    """Return the value of ``text``; ValueError, SyntaxError or ArithmeticError when it has none."""
    if len(text) > MAX_TEXT:
        raise ValueError("it is too long")
    return _walk(ast.parse(text.strip(), mode="eval").body, symbols)


def _walk(node: ast.expr, symbols: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name in symbols:
            return symbols[name]
        case ast.BinOp() if type(node.op) in BINARY:
            left, right = _walk(node.left, symbols), _walk(node.right, symbols)
            return _bounded(BINARY[type(node.op)](left, right))
        case ast.UnaryOp(op=ast.USub()):
            return -_walk(node.operand, symbols)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in CALLS and node.args:
            values = [_walk(arg, symbols) for arg in node.args]
            return CALLS[name](values)
        case _:
            raise ValueError(f"'{ast.unparse(node)[:80]}' is not understood")


def _bounded(value: int) -> int:
    if value.bit_length() > MAX_BITS:
        raise ValueError("its value is too large")
    return value

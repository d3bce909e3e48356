"""Greatest sizes that a model itself implies: a position table of 512 rows takes no 600 tokens.

Where ``min(S, 512)`` meets ``S`` in an elementwise operator, the two must be equal, so ``S`` is at
most 512. An importer reads the graph again with the narrower range: the ``min`` is gone then, and
a longer input is refused by name before anything runs.
"""

from collections.abc import Iterator

from xdsl.ir import Operation

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.symbols import Symbols
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Call, Expr, Symbol, as_symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.views import ExpandOp
from tapeout.ir.types import spec


def implied_limits(module: Module) -> dict[str, int]:
    """The greatest value of each symbol that has a lower one than its range, by symbol name."""
    found: dict[str, int] = {}
    for entry in module.entries():
        for op in entry.body.block.walk():
            for symbol, limit in _limits(op):
                found[symbol.name] = min(limit, found.get(symbol.name, limit))
    return found


def check_asked(symbols: Symbols, limits: dict[str, int]) -> None:
    """E0103 when the user asked for sizes beyond what the model takes."""
    for name, limit in limits.items():
        asked = symbols.asked(name)
        if asked is not None and asked > limit:
            raise CompileError(
                "E0103",
                f"the model takes at most {limit} for {quoted(symbols.names[name])}",
                [("given", f"up to {asked}")],
                f"give a range that ends at {limit} or before",
            )


def _limits(op: Operation) -> Iterator[tuple[Symbol, int]]:
    if not isinstance(op, MapOp | ExpandOp):
        return
    result = spec(op.results[0]).dims
    for operand in op.operands:
        dims = spec(operand).dims
        for own, common in zip(reversed(dims), reversed(result), strict=False):
            for a, b in ((own, common), (common, own)):
                limit = _limit(a, b)
                if limit is not None:
                    yield limit


def _limit(clamped: Expr, whole: Expr) -> tuple[Symbol, int] | None:
    """``(s, c)`` for ``min(s, c)`` against ``s``."""
    symbol = as_symbol(whole)
    if symbol is None or not clamped.is_simple or clamped.constant is not None:
        return None
    atom = clamped.terms[0][0][0]
    if not isinstance(atom, Call) or atom.fn != "min" or whole not in atom.args:
        return None
    numbers = [a.constant for a in atom.args if a.constant is not None]
    return (symbol, min(numbers)) if numbers else None

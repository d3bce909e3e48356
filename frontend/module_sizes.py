"""Sizes for all symbols of a module, that figures are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tapeout.frontend.sizes import choose
from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.types import Spec, specs


def symbols_of(module: Module) -> list[Symbol]:
    """Every symbol of the inputs and of what is computed from them, by name."""
    return sorted({s for v in _values(module) for d in v.dims for s in d.symbols()}, key=str)


def sizes_of(module: Module, entry: EntryOp, at: Mapping[str, int]) -> dict[str, int]:
    """A size for every symbol: see :func:`choose`; one that data decides has its greatest.

    E0103 for a name in ``at`` that is no symbol, and for a value outside its range.
    """
    first = {str(s.dims[0]) for s in specs(entry.body.block.args) if s.dims}
    symbols = symbols_of(module)
    own = [(s.name, s.lo, s.hi) for s in symbols if not isinstance(s.hi, Expr)]
    chosen = choose(own, first, at)
    for s in symbols:
        if isinstance(s.hi, Expr):
            chosen[s.name] = s.hi.evaluate(chosen)
    return chosen


def _values(module: Module) -> Iterator[Spec]:
    for entry in module.entries():
        yield from specs(entry.body.block.args)
    for op in module.ir.walk():
        if isinstance(op, NNOp):
            yield from specs(op.results)

"""An entry's interface: its ports, and the slots of ``session->dims`` that hold its sizes.

Slots, in the order that ``rt.h`` asks for: the symbols and expressions that axes of inputs
show; what is derived from those when a call begins (symbols that occur only inside of
expressions, and output sizes); sizes that data decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.ir.errors import CompileError, printable
from tapeout.ir.expr import Expr, Symbol, as_symbol, bounds
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.types import Spec, spec, specs
from tapeout.passes.memory.late import late_symbols

NO_UPPER = 2**62
SHOWN_CHARACTERS = 40
"""Of a name in a message that may hold several."""

Port = tuple[str, Spec]


@dataclass(frozen=True)
class Solved:
    """A symbol that no axis shows by itself: ``(axis - rest) / factor``."""

    symbol: Symbol
    axis: Expr
    rest: Expr
    factor: int


@dataclass(frozen=True)
class Interface:
    """Names, types and symbols of one entry, and the slots of ``session->dims``.

    The last ``states`` of the inputs are states; they are no outputs, for a run changes them.
    """

    inputs: tuple[Port, ...]
    states: int
    outputs: tuple[Port, ...]
    bound: tuple[Expr, ...]
    """What axes of inputs show: symbols, then expressions of several terms."""
    solved: tuple[Solved, ...]
    derived: tuple[Expr, ...]
    """Output sizes that follow from the inputs' and are no bare symbol."""
    late: tuple[Symbol, ...]
    late_derived: tuple[Expr, ...]
    """Output sizes that follow from what data decides."""

    @property
    def symbols(self) -> tuple[tuple[str, int, int], ...]:
        """Name, least and greatest value of each symbol that the inputs decide."""
        own = [s for s in map(as_symbol, self.bound) if s is not None]
        return tuple(_limits(s) for s in [*own, *(s.symbol for s in self.solved)])

    @property
    def slots(self) -> dict[str, int]:
        """The slot of each symbol by name."""
        table = {s.name: i for i, e in enumerate(self.bound) if (s := as_symbol(e)) is not None}
        first = len(self.bound)
        table |= {s.symbol.name: first + i for i, s in enumerate(self.solved)}
        first += len(self.solved) + len(self.derived)
        return table | {s.name: first + i for i, s in enumerate(self.late)}

    @property
    def places(self) -> dict[str, str]:
        """Where a caller finds the size that a symbol stands for: ``axis 0 of input 'x'``."""
        found: dict[str, str] = {}
        shown = [(name, axis, dim) for name, t in self.inputs for axis, dim in enumerate(t.dims)]
        # An axis that is the symbol itself tells more than one that is computed from it.
        for name, axis, dim in sorted(shown, key=lambda each: as_symbol(each[2]) is None):
            for symbol in dim.symbols():
                found.setdefault(symbol.name, f"axis {axis} of input '{_short(name)}'")
        return found

    @property
    def late_dims(self) -> int:
        """The number of slots that only the run fills."""
        return len(self.late) + len(self.late_derived)

    def input_slot(self, dim: Expr) -> int:
        """The slot of an input's dimension that is not constant."""
        return self.bound.index(dim)

    def slot(self, dim: Expr) -> int:
        """The slot of an output's dimension that is not constant."""
        bare = as_symbol(dim)
        if bare is not None:
            return self.slots[bare.name]
        first = len(self.bound) + len(self.solved)
        if dim in self.derived:
            return first + self.derived.index(dim)
        first += len(self.derived) + len(self.late)
        return first + self.late_derived.index(dim)


def interface_of(entry: EntryOp) -> Interface:
    """Collect the interface of an entry. E0402 when its inputs do not tell some symbol."""
    inputs = tuple(zip(entry.inputs.data, specs(entry.body.block.args), strict=True))
    states = len(entry.state_names)
    results = list(zip(entry.outputs.data, (spec(v) for v in entry.returned), strict=True))
    outputs = tuple(results[: len(results) - states])
    axes = list(dict.fromkeys(d for _, t in inputs for d in t.dims if d.constant is None))
    bare = sorted((d for d in axes if as_symbol(d) is not None), key=str)
    mixed = [d for d in axes if as_symbol(d) is None]
    late = late_symbols(entry)
    open_sizes = list(dict.fromkeys(d for _, t in outputs for d in t.dims if _is_mixed(d)))
    return Interface(
        inputs,
        states,
        outputs,
        (*bare, *mixed),
        tuple(_solve(bare, mixed)),
        tuple(d for d in open_sizes if not d.symbols() & set(late)),
        late,
        tuple(d for d in open_sizes if d.symbols() & set(late)),
    )


def _short(name: str) -> str:
    """A name from a model for a line of a message."""
    text = printable(name)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _is_mixed(dim: Expr) -> bool:
    return dim.constant is None and as_symbol(dim) is None


def _solve(bare: Sequence[Expr], mixed: Sequence[Expr]) -> list[Solved]:
    """Each symbol that occurs only inside of expressions, from the first that tells it."""
    known = {s for d in bare for s in d.symbols()}
    wanted = dict.fromkeys(s for d in mixed for s in d.symbols() if s not in known)
    solved: list[Solved] = []
    while wanted:
        found = next((f for d in mixed if (f := _told_by(d, known)) is not None), None)
        if found is None:
            names = ", ".join(s.name for s in wanted)
            raise CompileError(
                "E0402",
                "the shapes of the inputs do not tell the value of a dimension",
                [("dimensions", names), ("axes", ", ".join(map(str, mixed)))],
                "give the dimension a fixed size, or an input an axis of just this size",
            )
        solved.append(found)
        known.add(found.symbol)
        del wanted[found.symbol]
    return solved


def _told_by(axis: Expr, known: set[Symbol]) -> Solved | None:
    """The one unknown symbol of an axis, if the axis is linear in it."""
    unknown = [s for s in axis.symbols() if s not in known]
    if len(unknown) != 1:
        return None
    factor = axis.coefficient(unknown[0])
    if factor is None or factor.constant is None:
        return None
    return Solved(unknown[0], axis, axis.substitute({unknown[0]: 0}), factor.constant)


def _limits(s: Symbol) -> tuple[str, int, int]:
    assert not isinstance(s.hi, Expr), f"{s} is a dimension, its range is constant"
    return s.name, s.lo, NO_UPPER if s.hi is None else s.hi


def limits(axis: Expr) -> tuple[int, int]:
    """The least and the greatest size of an axis."""
    low, high = bounds(axis)
    return max(low or 0, 0), NO_UPPER if high is None else min(high, NO_UPPER)

"""Which results may be written to the memory of the state that they begin as.

What an entry returns for a state is often the state with few elements replaced, by one operator or
several in a row (a key-value cache takes one line a step). Then nothing is copied: each of them
writes to the state's own memory, provided that nobody reads what was there before any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Protocol

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.ops.structure import CallOp, EntryOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.passes.memory.late import callee


class Begins(Protocol):
    """What is known of a kernel."""

    @property
    def begins(self) -> Sequence[int]:
        """For each result the operand that its memory holds beforehand, or -1."""
        ...


def changes_in_place(
    old: SSAValue, new: SSAValue, kernels: Mapping[str, Begins], entry: EntryOp
) -> Set[SSAValue]:
    """All results on the way from a state to its next value; none where one has to be copied."""
    block = entry.body.block
    places = {op: i for i, op in enumerate(block.ops)}
    found: set[SSAValue] = set()
    value = _origin(new)
    while value is not old:
        call = value.owner
        if not isinstance(call, CallOp) or call.parent is not block:
            return set()
        begins = kernels[call.callee.data].begins
        operand = begins[[r is value for r in call.results].index(True)] if begins else -1
        if operand < 0 or _reads_otherwise(call, operand, entry):
            return set()
        before = _origin(call.args[operand])
        if any(at >= places[call] for at in _read_at(before, block, places, call)):
            return set()
        found.add(value)
        value = before
    return found


def _origin(value: SSAValue) -> SSAValue:
    """The value whose memory a chain of reshapes shows."""
    while isinstance(value.owner, ReshapeOp):
        value = value.owner.x
    return value


def _reads_otherwise(call: CallOp, operand: int, entry: EntryOp) -> bool:
    """Whether a kernel reads what its result begins as, beside beginning with it."""
    own = _origin(call.args[operand])
    if sum(_origin(v) is own for v in call.args) > 1:
        return True
    return len(list(callee(entry, call).body.block.args[operand].uses)) > 1


def _read_at(
    value: SSAValue, block: Block, places: Mapping[Operation, int], but: Operation
) -> Iterator[int]:
    """Places in the block of everything that reads a value's memory, one operator left out."""
    for use in value.uses:
        op = use.operation
        if isinstance(op, ReshapeOp):
            yield from _read_at(op.y, block, places, but)
        elif op is not but:
            outer: Operation | None = op
            while outer is not None and outer.parent is not block:
                outer = outer.parent_op()
            assert outer is not None, "a reader stands in the entry"
            yield places[outer]

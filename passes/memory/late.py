"""Sizes that data decides: which symbols they are, and slots for buffers of such sizes."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from tapeout.ir.expr import Symbol, as_symbol
from tapeout.ir.ops.source import BindDimsOp
from tapeout.ir.ops.structure import CallOp, EntryOp, KernelOp, LoopOp
from tapeout.ir.types import specs
from tapeout.passes.memory.steps import Buffer, Life
from tapeout.passes.tile.kernel_io import decided


def late_symbols(entry: EntryOp) -> tuple[Symbol, ...]:
    """Symbols that get their values while an entry runs, in the order of the text."""
    given = {s for t in specs(entry.body.block.args) for d in t.dims for s in d.symbols()}
    found: dict[Symbol, None] = {}
    for op in entry.walk():
        match op:
            case BindDimsOp():
                found.update(dict.fromkeys(bound_by(op)))
            case LoopOp():
                found.update(dict.fromkeys(op.count.data[0].symbols()))
            case CallOp():
                found.update(dict.fromkeys(decided(callee(entry, op))))
            case _:
                pass
    return tuple(s for s in found if s not in given)


def bound_by(op: BindDimsOp) -> tuple[Symbol, ...]:
    """The symbols that ``nn.bind_dims`` gives values, one per element."""
    found = [as_symbol(e) for e in op.symbols.data]
    assert all(found), "nn.bind_dims binds bare symbols"
    return tuple(s for s in found if s is not None)


def callee(entry: Operation, call: CallOp) -> KernelOp:
    """The kernel that a call names."""
    module = entry.parent_op()
    assert isinstance(module, ModuleOp), "an entry stands in a module"
    for op in module.body.block.ops:
        if isinstance(op, KernelOp) and op.sym_name.data == call.callee.data:
            return op
    raise AssertionError(f"there is no kernel {call.callee.data}")


def share_slots(buffers: Sequence[Buffer]) -> int:
    """Number late buffers so that those that never live together share; returns the slots."""
    free: list[Life] = []
    for buffer in sorted(buffers, key=lambda b: (b.first, b.last)):
        slot = next((i for i, life in enumerate(free) if life.last < buffer.first), len(free))
        free[slot : slot + 1] = [buffer.life]
        buffer.number = slot
    return len(free)

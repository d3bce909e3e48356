"""Which strategy lowers which kernel, and what it asks of constant operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.ir import Operation

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import ConstantOp, DimValuesOp, IotaOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, KernelOp, ReturnOp
from tapeout.ir.ops.views import ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.tile.ops import ProgramOp
from tapeout.passes.fuse.groups import Roots
from tapeout.passes.tile.kernel_io import Machine
from tapeout.passes.tile.rows import lower_rows

Array = np.ndarray[Any, Any]
Pack = Callable[[Array], Array]

ROWS = (
    *(MapOp, ConvertOp, TransposeOp, ExpandOp, SliceOp, PadOp, ReshapeOp),
    *(ReduceOp, ConstantOp, IotaOp, DimValuesOp, ReturnOp),
)


@dataclass(frozen=True)
class Lowered:
    """A tile program, and for some operands the layout in which it wants their weights."""

    program: ProgramOp
    packs: Mapping[int, Pack] = field(default_factory=dict)


ROOTS = Roots(epilogue=(ReduceOp,), prologue=(ReduceOp,))


def lower_kernel(kernel: KernelOp, machine: Machine) -> Lowered:
    """The tile program of a kernel; E0403 names an operator without a strategy."""
    others = [op for op in kernel.body.block.ops if not isinstance(op, ROWS)]
    if not others:
        return Lowered(lower_rows(kernel, machine))
    raise unsupported(others)


def unsupported(ops: Sequence[Operation]) -> CompileError:
    """The refusal that lists operators without a strategy."""
    names = ", ".join(sorted({op.name for op in ops}))
    return CompileError("E0403", f"no strategy lowers {names}", fix="see `tapeout targets`")


def repack(module: Module, entry: EntryOp, lowered: Mapping[str, Lowered]) -> None:
    """Give each call the weights in the layout that its program wants."""
    made: dict[tuple[str, int, str], WeightOp] = {}
    for call in list(entry.walk()):
        if not isinstance(call, CallOp):
            continue
        for position, pack in lowered[call.callee.data].packs.items():
            weight = call.args[position].owner
            assert isinstance(weight, WeightOp), "only weights are packed"
            key = (weight.symbol.data, position, call.callee.data)
            if key not in made:
                array = pack(module.weights[weight.symbol.data])
                symbol = module.weights.add(array, module.weights.label(weight.symbol.data))
                dims = tuple(map(as_expr, array.shape))
                made[key] = WeightOp.make(symbol=symbol, shape=dims, dtype=weight.dtype.data)
                block = entry.body.block
                first = block.first_op
                assert first is not None, "the call itself is there"
                block.insert_op_before(made[key], first)
            call.operands[position] = made[key].y

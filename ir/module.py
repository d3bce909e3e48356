"""A program in the making: the IR of its entries and kernels, with the weights beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from tapeout.ir.dtypes import dtype_of
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import EntryOp, KernelOp
from tapeout.ir.weights import WeightStore

Array = np.ndarray[Any, Any]

# Larger literals would bloat the text of the IR; they go to the weight store.
INLINE_BYTES = 512


@dataclass
class Module:
    """IR and weights together; passes change it in place.

    ``states``: what states hold before the first run, by name; zeros where nothing is said.
    ``origins``: which nodes of the model made operators of a name, as messages call them. Passes
    do not keep it up: it is for telling a user where to look.
    """

    ir: ModuleOp = field(default_factory=lambda: ModuleOp([]))
    weights: WeightStore = field(default_factory=WeightStore)
    origins: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    states: dict[str, Array] = field(default_factory=dict[str, Array])

    def copy(self) -> Module:
        """A module to change that leaves this one as it is; weights are shared, not copied."""
        return Module(self.ir.clone(), self.weights.copy(), self.origins, self.states)

    def entries(self) -> Iterator[EntryOp]:
        """Every entry, in order."""
        return (op for op in self.ir.body.block.ops if isinstance(op, EntryOp))

    def kernels(self) -> dict[str, KernelOp]:
        """Every kernel by name, in order."""
        ops = self.ir.body.block.ops
        return {op.sym_name.data: op for op in ops if isinstance(op, KernelOp)}

    def constant(self, array: Array, label: str = "") -> Operation:
        """A new operator for a fixed tensor: inline when small, else in the weight store.

        The caller inserts it; its one result is the tensor.
        """
        array = np.asarray(array)
        if array.nbytes <= INLINE_BYTES and array.dtype.kind not in "OUSc":
            return ConstantOp.make(value=array)
        return self.weight(array, label)

    def weight(self, array: Array, label: str = "") -> WeightOp:
        """A new operator for a fixed tensor in the weight store, however small.

        Layers that differ in it alone stay one kernel, which they would not with a literal.
        """
        symbol = self.weights.add(array, label)
        shape = tuple(map(as_expr, array.shape))
        return WeightOp.make(symbol=symbol, shape=shape, dtype=dtype_of(array).name)

    def value_of(self, value: SSAValue) -> Array | None:
        """The array behind an SSA value that is a constant or a weight, else None."""
        op = value.owner
        if isinstance(op, ConstantOp):
            return op.value.data.array
        if isinstance(op, WeightOp):
            return self.weights[op.symbol.data]
        return None

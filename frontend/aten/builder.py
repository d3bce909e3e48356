"""What rules build with: operators at the end of the current block."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx
from xdsl.builder import Builder as Inserter
from xdsl.ir import Block, SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.frontend.aten.sizes import Sizes
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, boolean, f32, i64
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp, Operand
from tapeout.ir.ops.source import BindDimsOp
from tapeout.ir.types import spec

if TYPE_CHECKING:
    from tapeout.frontend.aten.call import Call

COMPARISONS = {
    **{"Equality": "eq", "Unequality": "ne", "StrictLessThan": "lt", "LessThan": "le"},
    **{"StrictGreaterThan": "gt", "GreaterThan": "ge"},
}
Array = np.ndarray[Any, Any]
Argument = SSAValue | Expr | int | float | bool


class Builder(Emit):
    """:class:`Emit` with the module's weights and the program's sizes at hand."""

    def __init__(self, module: Module, block: Block, sizes: Sizes) -> None:
        """Append to a block."""
        super().__init__(Inserter(InsertPoint.at_end(block)))
        self.module, self.sizes = module, sizes
        # Current values of the key-value cache's inputs and states by name, where there is one.
        self.cache: dict[str, SSAValue] | None = None
        self.entry = block
        # The node that is being imported, as messages call it.
        self.place = ""
        # Imports a graph inside of the graph for given arguments; the importer sets it.
        self.graph: Callable[[fx.GraphModule, Sequence[Any]], list[Any]]

    def op(self, cls: type[NNOp], *operands: Operand, **attrs: Any) -> SSAValue:
        """Any operator with one result."""
        return self.many(cls, *operands, **attrs)[0]

    def many(self, cls: type[NNOp], *operands: Operand, **attrs: Any) -> tuple[SSAValue, ...]:
        """Any operator."""
        made = self.builder.insert(cls.make(*operands, **attrs))
        places = self.module.origins.setdefault(made.name, [])
        if self.place and places[-1:] != [self.place]:
            places.append(self.place)
        return tuple(made.results)

    def bind(self, x: SSAValue, size: Expr) -> None:
        """Give a symbol its value from an i64 vector of one."""
        if self.sizes.bind(size):
            self.builder.insert(BindDimsOp.make(x, symbols=(size,)))

    def literal(self, array: Array, label: str = "") -> SSAValue:
        """A fixed tensor: inline when small, else a weight; it stands in the entry's own block."""
        nested = self.builder.insertion_point.block is not self.entry
        first = Inserter(InsertPoint.at_start(self.entry))
        into = first if nested else self.builder
        return into.insert(self.module.constant(array, label)).results[0]

    @contextmanager
    def into(self, block: Block) -> Generator[None]:
        """Append to another block meanwhile."""
        outer, self.builder = self.builder, Inserter(InsertPoint.at_end(block))
        yield
        self.builder = outer

    def tensor(self, value: Argument) -> SSAValue:
        """A tensor as it is; a number or a size as one of rank 0."""
        if isinstance(value, SSAValue):
            return value
        fitting = boolean if isinstance(value, bool) else f32 if isinstance(value, float) else i64
        return self.operand(value, fitting)

    def holds(self, call: Call, condition: Any) -> SSAValue | bool:
        """A condition as a bool of rank 0: a tensor of one, or a comparison of sizes."""
        if isinstance(condition, SSAValue):
            one = self.reshape(condition, ())
            return one if spec(one).dtype is boolean else self.map("ne", one, self.like(0, one))
        if not isinstance(condition, torch.SymBool):
            return bool(condition)
        tree = condition.node.expr
        fn = COMPARISONS.get(type(tree).__name__)
        if fn is None:
            call.refuse("a condition on sizes has no support", ("condition", tree))
        return self.map(fn, *(self.size(self.sizes.of(side), i64) for side in tree.args))

    def operand(self, value: Argument, dtype: DType) -> SSAValue:
        """A tensor, number or size as a tensor of ``dtype``; numbers have rank 0."""
        if isinstance(value, SSAValue):
            return self.convert(value, dtype)
        if isinstance(value, Expr):
            return self.size(value, dtype)
        return self.constant(value, dtype)


def each(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """One number for all ``n`` axes, or one for each."""
    given = [value] if isinstance(value, int) else list(value)
    return tuple(int(v) for v in (given * n if len(given) == 1 else given))


def axis_of(x: SSAValue, axis: int) -> int:
    """An axis that may count from the back."""
    return axis % max(spec(x).rank, 1)

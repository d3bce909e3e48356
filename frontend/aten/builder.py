"""What rules build with: operators at the end of the current block."""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.builder import Builder as Inserter
from xdsl.ir import Block, SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.frontend.aten.sizes import Sizes
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp, Operand
from tapeout.ir.types import spec

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
        # The node that is being imported, as messages call it.
        self.place = ""

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

    def literal(self, array: Array, label: str = "") -> SSAValue:
        """A fixed tensor: inline when small, else a weight."""
        return self.builder.insert(self.module.constant(array, label)).results[0]

    def operand(self, value: Argument, dtype: DType) -> SSAValue:
        """A tensor, number or size as a tensor of ``dtype``; numbers have rank 0."""
        if isinstance(value, SSAValue):
            return self.convert(value, dtype)
        if isinstance(value, Expr):
            return self.size(value, dtype)
        return self.constant(value, dtype)


def axis_of(x: SSAValue, axis: int) -> int:
    """An axis that may count from the back."""
    return axis % max(spec(x).rank, 1)

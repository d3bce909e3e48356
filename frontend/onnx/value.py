"""Values while a model is imported: a tensor whose contents may be known, lists, and nothing.

A tensor's contents, when known, are a numpy array of numbers or an ``object`` array of
:class:`Expr` (sizes that a graph computes with). A value gets an operator only when one reads it.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from xdsl.ir import SSAValue

from tapeout.frontend.onnx.known import NotKnown
from tapeout.ir.dtypes import DType, dtype_of
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.types import Spec

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(eq=False, slots=True)
class Value:
    """One tensor: what is known of it, and the SSA value where an operator made it.

    ``content`` is None when only the run decides it; ``hints`` may then hold those elements of a
    small tensor that are known, among Nones: expressions for integers, ``Ratio`` for floats that
    are computed from sizes. ``label`` is the file's name of a weight.
    """

    spec: Spec
    content: Array | None = None
    ssa: SSAValue | None = None
    label: str = ""
    hints: Array | None = None

    @property
    def dims(self) -> tuple[Expr, ...]:
        """The sizes."""
        return self.spec.dims

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return self.spec.rank

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.spec.dtype

    @property
    def array(self) -> Array | None:
        """The contents when they are plain numbers, else None."""
        if self.content is None or (self.is_symbolic and self.dtype.kind != "string"):
            return None
        return self.content

    @property
    def is_symbolic(self) -> bool:
        """Whether the contents are known as expressions over symbols."""
        return self.content is not None and self.content.dtype == object


@dataclass(frozen=True, eq=False, slots=True)
class Items:
    """A sequence whose length is known; ``element`` is the element type of its tensors.

    Inside of a loop that appends to it, ``before`` is what to raise when more is asked for than
    the items that this iteration has appended.
    """

    values: "tuple[Value, ...]"
    element: DType
    before: NotKnown | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Slices:
    """A sequence of the slices of a tensor along its first axis, whose length may be open."""

    tensor: Value


@dataclass(frozen=True, eq=False, slots=True)
class Nothing:
    """An optional without a value."""


AnyValue: TypeAlias = Value | Items | Slices | Nothing


def known(array: Array, label: str = "") -> Value:
    """A value with these numbers as contents."""
    return Value(Spec(tuple(map(as_expr, array.shape)), dtype_of(array)), array, label=label)


def symbolic(exprs: Array, dtype: DType) -> Value:
    """A value with these expressions as contents; all-constant ones become plain numbers."""
    lifted = lift(exprs)
    constants = [e.constant for e in lifted.reshape(-1)]
    if None not in constants:
        return known(np.array(constants, dtype.numpy).reshape(lifted.shape))
    return Value(Spec(tuple(map(as_expr, lifted.shape)), dtype), lifted)


def lift(content: Array) -> Array:
    """The same contents as an ``object`` array of expressions."""
    out = np.empty(content.shape, object)
    for index in np.ndindex(content.shape):
        item = content[index]
        out[index] = item if isinstance(item, Expr) else as_expr(int(item))
    return out

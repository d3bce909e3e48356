"""What rules ask of values: who made them, are they fixed numbers, does anyone else read them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.ir.expr import ONE, Expr
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.views import ExpandOp, ReshapeOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]
OpT = TypeVar("OpT", bound=Operation)

# Adding this much to a score makes its exp exactly 0 beside any score that is not masked.
HIDDEN = -1e30

# A literal that an exporter rounded to the element type: a few units in the last place.
_ROUNDING = {"f64": 2e-7, "f32": 1e-6, "f16": 2e-3, "bf16": 1.6e-2}


def made_by(value: SSAValue | None, kind: type[OpT]) -> OpT | None:
    """The operator of class ``kind`` whose result ``value`` is, else None."""
    owner = None if value is None else value.owner
    return owner if isinstance(owner, kind) else None


def operands_of(value: SSAValue, fn: str) -> tuple[SSAValue, ...] | None:
    """The operands when ``value`` is ``nn.map`` of ``fn``, else None."""
    owner = value.owner
    return tuple(owner.xs) if isinstance(owner, MapOp) and owner.fn.data == fn else None


def only_use(value: SSAValue) -> bool:
    """Whether exactly one operand reads ``value``."""
    return value.has_one_use()


def either_way(pair: Sequence[SSAValue]) -> Iterator[tuple[SSAValue, SSAValue]]:
    """Both orders of the operands of a commutative function."""
    a, b = pair
    yield a, b
    yield b, a


def number(edit: Edit, value: SSAValue) -> float | None:
    """The one number that a fixed tensor holds everywhere, else None."""
    value = behind_repeats(value)
    array = edit.array(value)
    if array is None or array.dtype.kind not in "fiubV" or array.size == 0:
        return None
    if array.size > 1 and not uniform(array):
        return None
    return float(array.reshape(-1)[0])


def uniform(array: Array) -> bool:
    """Whether all elements are equal; three of them decide for most arrays that are not."""
    if all(step == 0 or n == 1 for step, n in zip(array.strides, array.shape, strict=True)):
        return True
    first = array[(0,) * array.ndim]
    probes = (tuple(n - 1 for n in array.shape), tuple(n // 2 for n in array.shape))
    return all(array[p] == first for p in probes) and bool(np.all(array == first))


def behind_repeats(value: SSAValue) -> SSAValue:
    """What a chain of reshapes and expansions repeats; every element is one of its elements."""
    while (op := value.owner) and isinstance(op, ExpandOp | ReshapeOp):
        value = op.x
    return value


def is_number(edit: Edit, value: SSAValue, want: float) -> bool:
    """Whether ``value`` is fixed and everywhere ``want``, as the element type rounds it."""
    have = number(edit, value)
    if have is None:
        return False
    return have == want or abs(have - want) <= _ROUNDING.get(spec(value).dtype.name, 0) * abs(want)


def times_number(edit: Edit, value: SSAValue) -> tuple[SSAValue, float] | None:
    """``(x, c)`` when ``value`` is ``x * c``, ``c * x`` or ``x / c'`` for a number."""
    product = operands_of(value, "mul")
    if product is not None:
        for x, c in either_way(product):
            scale = number(edit, c)
            if scale is not None and spec(x).dims == spec(value).dims:
                return x, scale
    quotient = operands_of(value, "div")
    if quotient is not None and spec(value).dtype.is_float:
        divisor = number(edit, quotient[1])
        if divisor and spec(quotient[0]).dims == spec(value).dims:
            return quotient[0], 1.0 / divisor
    return None


def plus_number(edit: Edit, value: SSAValue) -> tuple[SSAValue, float] | None:
    """``(x, c)`` when ``value`` is ``x + c`` or ``c + x`` for a number."""
    for x, c in either_way(operands_of(value, "add") or ()) if operands_of(value, "add") else ():
        shift = number(edit, c)
        if shift is not None:
            return x, shift
    return None


def without_ones(dims: Sequence[Expr]) -> tuple[Expr, ...]:
    """The sizes that are not 1."""
    return tuple(d for d in dims if d != ONE)


def swaps_last_two(op: TransposeOp) -> bool:
    """Whether the permutation exchanges just the last two axes."""
    perm = op.perm.data
    n = len(perm)
    return n >= 2 and tuple(perm) == (*range(n - 2), n - 1, n - 2)

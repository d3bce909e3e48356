"""What known contents make of an operator: numbers in numpy, sizes as expressions.

This is what lets an exporter's Shape, Gather, Concat, Reshape chains vanish: they are computed
here, while the graph is read, and leave no operator behind.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.frontend.onnx.value import Array, Value, known, symbolic
from tapeout.ir.dtypes import DType, boolean
from tapeout.ir.expr import Expr, as_expr, is_at_least, maximum, minimum
from tapeout.ir.op import NNOp, as_tuple
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.shapes import never_equal
from tapeout.ir.types import Spec

FOLDED_ELEMENTS = 65_536
"""Larger tensors are left to passes: folding them would copy mapped weights."""

SYMBOLIC_ELEMENTS = 4_096
"""Larger tensors of sizes are no shape arithmetic."""

Operand = Value | Sequence[Value] | None

_MOVES: frozenset[str] = frozenset(
    op.name for op in (ReshapeOp, TransposeOp, ExpandOp, SliceOp, ConcatOp)
) | {"nn.gather"}


def fold(
    op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any], results: Sequence[Spec]
) -> tuple[Value, ...] | None:
    """The results when contents decide them, else None."""
    values = _flat(operands)
    if any(v.content is None or v.dtype.kind == "string" for v in values):
        return None
    numbers = _constant_attrs(attrs)
    sizes = [r.size.constant for r in results]
    if numbers is None or any(s is None or s > FOLDED_ELEMENTS for s in sizes):
        return None
    if any(v.is_symbolic for v in values):
        return _fold_symbolic(op, operands, numbers, results)
    if not hasattr(op, "reference") or any(_size(v) > FOLDED_ELEMENTS for v in values):
        return None
    arrays = [_arrays(operand, lambda v: v.content) for operand in operands]
    made = as_tuple(op.reference(*arrays, **numbers))
    return tuple(known(np.asarray(m)) for m in made)


def _fold_symbolic(
    op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any], results: Sequence[Spec]
) -> tuple[Value, ...] | None:
    if any(_size(v) > SYMBOLIC_ELEMENTS for v in _flat(operands)):
        return None
    dtype = results[0].dtype
    if op is MapOp:
        group = operands[0]
        assert isinstance(group, Sequence), "nn.map takes one group of operands"
        made = _map(attrs["fn"], [v.content for v in group if v.content is not None], dtype)
    elif op is ReduceOp:
        made = _reduce(operands, attrs)
    elif op is ConvertOp:
        (value,) = _flat(operands)
        made = value.content if dtype.is_integer else None
    elif op.name in _MOVES and hasattr(op, "reference"):
        made = _move(op, operands, attrs)
    else:
        return None
    return None if made is None else (symbolic(np.asarray(made, object), dtype),)


def _move(op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any]) -> Array | None:
    """Apply the reference to ``object`` arrays; indices of a gather must be numbers."""
    if op.name == "nn.gather" and any(v.is_symbolic for v in _flat(operands[1:])):
        return None
    return op.reference(*(_arrays(o, lambda v: v.content) for o in operands), **attrs)


def _reduce(operands: Sequence[Operand], attrs: Mapping[str, Any]) -> Array | None:
    (value,) = _flat(operands)
    combine = {"sum": np.add, "prod": np.multiply}.get(attrs["fn"])
    if combine is None or value.content is None:
        return None
    axes, keep = tuple(attrs["axes"]), attrs.get("keepdims", False)
    return np.asarray(combine.reduce(value.content, axis=axes, keepdims=keep), object)


def _map(fn: str, contents: Sequence[Array], dtype: DType) -> Array | None:
    compute = _SCALARS.get(fn)
    if compute is None or not (dtype.is_integer or dtype is boolean):
        return None
    wide = np.broadcast_arrays(*contents)
    out = np.empty(wide[0].shape, object)
    for index in np.ndindex(out.shape):
        made = compute(*(_element(w[index]) for w in wide))
        if made is None:
            return None
        out[index] = made
    return out


def _element(value: Any) -> Expr:
    return value if isinstance(value, Expr) else as_expr(int(value))


def _divide(a: Expr, b: Expr) -> Expr | None:
    """Division toward zero, when it is the floor."""
    return a // b if is_at_least(a, 0) and is_at_least(b, 1) else None


def _modulo(a: Expr, b: Expr) -> Expr | None:
    return a % b if is_at_least(b, 1) else None


def _truncated_modulo(a: Expr, b: Expr) -> Expr | None:
    return a % b if is_at_least(a, 0) and is_at_least(b, 1) else None


def _absolute(a: Expr) -> Expr | None:
    return a if is_at_least(a, 0) else (-a if is_at_least(-a, 0) else None)


def _sign(a: Expr) -> Expr | None:
    return as_expr(1) if is_at_least(a, 1) else (as_expr(-1) if is_at_least(-a, 1) else None)


def _truth(value: bool | None) -> Expr | None:
    return None if value is None else as_expr(int(value))


def _equal(a: Expr, b: Expr) -> bool | None:
    return True if a == b else (False if never_equal(a, b) else None)


def _less(a: Expr, b: Expr) -> bool | None:
    return True if is_at_least(b - a, 1) else (False if is_at_least(a - b, 0) else None)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _where(c: Expr, a: Expr, b: Expr) -> Expr | None:
    if a == b:
        return a
    return None if c.constant is None else (a if c.constant else b)


_SCALARS: Mapping[str, Callable[..., Expr | None]] = {
    "neg": lambda a: -a,
    "abs": _absolute,
    "sign": _sign,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _divide,
    "floor_mod": _modulo,
    "trunc_mod": _truncated_modulo,
    "min": lambda a, b: minimum(a, b),
    "max": lambda a, b: maximum(a, b),
    "eq": lambda a, b: _truth(_equal(a, b)),
    "ne": lambda a, b: _truth(_not(_equal(a, b))),
    "lt": lambda a, b: _truth(_less(a, b)),
    "ge": lambda a, b: _truth(_not(_less(a, b))),
    "gt": lambda a, b: _truth(_less(b, a)),
    "le": lambda a, b: _truth(_not(_less(b, a))),
    "where": _where,
}


def _flat(operands: Sequence[Operand]) -> list[Value]:
    found: list[Value] = []
    for operand in operands:
        if isinstance(operand, Value):
            found.append(operand)
        elif operand is not None:
            found.extend(operand)
    return found


def _arrays(operand: Operand, read: Callable[[Value], Array | None]) -> Any:
    if operand is None:
        return None
    if isinstance(operand, Value):
        return read(operand)
    return tuple(read(v) for v in operand)


def _constant_attrs(attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Attributes with every expression as a number, or None when one is not."""

    def number(value: Any) -> Any:
        if isinstance(value, Expr):
            return value.constant
        if isinstance(value, (tuple, list)):
            return tuple(number(v) for v in value)
        return value

    made = {name: number(value) for name, value in attrs.items()}
    lost = any(
        v is not None and (made[n] is None or (isinstance(made[n], tuple) and None in made[n]))
        for n, v in attrs.items()
    )
    return None if lost else made


def _size(value: Value) -> int:
    assert value.content is not None, "only asked of known values"
    return value.content.size

"""What known contents make of an operator: numbers in numpy, sizes as expressions.

This is what lets an exporter's Shape, Gather, Concat, Reshape chains vanish: they are computed
here, while the graph is read, and leave no operator behind. Where only some elements of a small
integer tensor are known, the operator stays and its result carries those as ``hints``; so does a
float that is computed from sizes, as fractions (:mod:`tapeout.frontend.onnx.ratios`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np

from tapeout.frontend.onnx import ratios
from tapeout.frontend.onnx.known_exprs import FUNCTIONS, Element
from tapeout.frontend.onnx.value import Array, Value, known, symbolic
from tapeout.ir.dtypes import DType, boolean
from tapeout.ir.expr import Expr
from tapeout.ir.op import NNOp, as_tuple
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import Spec

FOLDED_ELEMENTS = 65_536
"""Larger tensors are left to passes: folding them would copy mapped weights."""

SYMBOLIC_ELEMENTS = 1_024
"""Larger tensors of sizes are no shape arithmetic."""

Operand: TypeAlias = Value | Sequence[Value] | None

_MOVES: frozenset[type[NNOp]] = frozenset(
    (ReshapeOp, TransposeOp, ExpandOp, SliceOp, ConcatOp, GatherOp)
)
_SUMS: Mapping[str, np.ufunc] = {"sum": np.add, "prod": np.multiply}


def fold(
    op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any], results: Sequence[Spec]
) -> tuple[Value, ...] | None:
    """The results when contents decide them, else None."""
    values = _flat(operands)
    if any(v.content is None or v.dtype.kind == "string" for v in values):
        return None
    if op is DequantizeOp:  # passes look for the codes behind a product's weights
        return None
    numbers = _constant_attrs(attrs)
    sizes = [_elements(r) for r in results]
    if numbers is None or any(s is None or s > FOLDED_ELEMENTS for s in sizes):
        return None
    if any(v.is_symbolic for v in values):
        made = _expressions(op, operands, numbers, results[0].dtype, _content)
        return None if made is None else _complete(made, results[0].dtype)
    if any(_content(v).size > FOLDED_ELEMENTS for v in values):
        return None
    arrays = _computed(op, _arrays(operands, _content), numbers)
    return None if arrays is None else tuple(known(np.asarray(a)) for a in arrays)


def _computed(
    op: type[NNOp], arrays: Sequence[Any], attrs: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """The operator's own meaning; None for an index outside its axis.

    Such an index is the run's to meet: it may stand in a branch that is never taken.
    """
    try:
        return as_tuple(op.reference(*arrays, **attrs))
    except IndexError:
        return None


def hints(
    op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any], result: Spec
) -> Array | None:
    """Those elements of a small result that are known, among Nones.

    Expressions for integers, :class:`ratios.Ratio` for floats.
    """
    values = _flat(operands)
    if all(v.content is None and v.hints is None for v in values):
        return None
    numbers = _constant_attrs(attrs)
    if numbers is None or any(_count(v.spec) is None for v in (*values, Value(result))):
        return None
    if any(v.dtype.is_float for v in (*values, Value(result))):
        made = _ratios(op, operands, numbers, result.dtype)
    else:
        made = _expressions(op, operands, numbers, result.dtype, _hinted)
        made = None if made is None else _each(_element, made)
    return None if made is None or all(e is None for e in made.reshape(-1)) else made


def is_whole(told: Array, dtype: DType) -> bool:
    """Whether hints are all that there is to know: then they are contents."""
    return dtype.is_integer and all(e is not None for e in told.reshape(-1))


def _ratios(
    op: type[NNOp], operands: Sequence[Operand], attrs: Mapping[str, Any], dtype: DType
) -> Array | None:
    """The result of an operator that takes or gives floats, as far as it is about sizes."""
    values = _flat(operands)
    if op is ConvertOp:
        return _converted(values[0], dtype)
    bits = ratios.SIGNIFICAND_BITS.get(dtype)
    if bits is None or all(v.hints is None for v in values):
        return None
    arrays = _arrays(operands, _hinted)
    if op is MapOp and attrs["fn"] in ratios.FUNCTIONS:
        compute = partial(ratios.FUNCTIONS[attrs["fn"]], bits=bits)
        return _each(compute, *(_each(ratios.element, a) for a in arrays[0]))
    if op not in _MOVES or (op is GatherOp and arrays[1].dtype == object):
        return None
    made = _computed(op, arrays, attrs)
    return None if made is None else _each(ratios.element, made[0])


def _converted(x: Value, to: DType) -> Array | None:
    """Sizes from or to a float type that counts them."""
    bits = ratios.SIGNIFICAND_BITS.get(to)
    if x.dtype.is_integer and bits is not None:
        return _each(partial(ratios.from_integer, bits=bits), _each(_element, _hinted(x)))
    if x.dtype not in ratios.SIGNIFICAND_BITS:
        return None
    told = _each(ratios.element, _hinted(x))
    if bits is not None:
        return _each(partial(ratios.in_type, bits=bits), told)
    return _each(partial(ratios.to_integer, to=to), told)


def _each(compute: Callable[..., Any], *operands: Array) -> Array:
    """``compute`` of the elements at each place, broadcast."""
    wide = np.broadcast_arrays(*operands)
    out = np.empty(wide[0].shape, object)
    for index in np.ndindex(out.shape):
        out[index] = compute(*(w[index] for w in wide))
    return out


def _expressions(
    op: type[NNOp],
    operands: Sequence[Operand],
    attrs: Mapping[str, Any],
    dtype: DType,
    read: Callable[[Value], Array],
) -> Array | None:
    """The result as an ``object`` array of expressions, None for an element that is not known."""
    values = _flat(operands)
    if not all(t.is_integer or t is boolean for t in (dtype, *(v.dtype for v in values))):
        return None
    if any(_count(v.spec) is None for v in values):
        return None
    arrays = _arrays(operands, read)
    if op is MapOp:
        return _map(attrs["fn"], arrays[0])
    if op is ReduceOp and attrs["fn"] in _SUMS and None not in arrays[0]:
        reduce = _SUMS[attrs["fn"]].reduce
        return np.asarray(reduce(arrays[0], axis=attrs["axes"], keepdims=attrs["keepdims"]), object)
    if op is ConvertOp and dtype.is_integer:
        return arrays[0]
    if op is GatherOp and arrays[1].dtype == object:
        return None
    made = _computed(op, arrays, attrs) if op in _MOVES else None
    return None if made is None else np.asarray(made[0], object)


def _map(fn: str, operands: Sequence[Array]) -> Array | None:
    compute = FUNCTIONS.get(fn)
    return None if compute is None else _each(compute, *(_each(_element, o) for o in operands))


def _complete(made: Array, dtype: DType) -> tuple[Value, ...] | None:
    return None if any(e is None for e in made.reshape(-1)) else (symbolic(made, dtype),)


def _element(value: Any) -> Element:
    return value if value is None or isinstance(value, Expr) else Expr({(): int(value)})


def _content(value: Value) -> Array:
    assert value.content is not None, "only asked of known values"
    return value.content


def _hinted(value: Value) -> Array:
    if value.content is not None:
        return value.content
    if value.hints is not None:
        return value.hints
    return np.full([int(d) for d in value.dims], None, object)


def _count(spec: Spec) -> int | None:
    """The number of elements when it is small enough for shape arithmetic."""
    size = _elements(spec)
    return size if size is not None and size <= SYMBOLIC_ELEMENTS else None


def _elements(spec: Spec) -> int | None:
    """The number of elements when every size is a number: 0 times a symbol is not."""
    return None if any(d.constant is None for d in spec.dims) else int(spec.size)


def _flat(operands: Sequence[Operand]) -> list[Value]:
    found: list[Value] = []
    for operand in operands:
        if isinstance(operand, Value):
            found.append(operand)
        elif operand is not None:
            found.extend(operand)
    return found


def _arrays(operands: Sequence[Operand], read: Callable[[Value], Array]) -> list[Any]:
    """Operand groups as ``reference`` takes them."""
    made: list[Any] = []
    for operand in operands:
        if operand is None or isinstance(operand, Value):
            made.append(None if operand is None else read(operand))
        else:
            made.append(tuple(read(v) for v in operand))
    return made


def _constant_attrs(attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Attributes with every expression as a number, or None when one is not."""
    made: dict[str, Any] = {}
    for name, value in attrs.items():
        if isinstance(value, tuple):
            items = cast(tuple[Any, ...], value)
            made[name] = tuple(i.constant if isinstance(i, Expr) else i for i in items)
            if None in made[name]:
                return None
        else:
            made[name] = value
    return made

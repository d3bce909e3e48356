"""Operators that combine the elements along axes."""

import ml_dtypes
import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE, Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.scalars import COMBINERS, NUMBERS
from tapeout.ir.shapes import check_axis, check_filled, check_kind
from tapeout.ir.types import FlagAttr, IntAttr, IntsAttr, Spec, StrAttr, TensorType


def _reduced(x: Spec, axes: tuple[int, ...], keepdims: bool) -> Spec:
    gone = {check_axis(a, x.rank, "reduce") for a in axes}
    if keepdims:
        return x.with_dims(ONE if i in gone else d for i, d in enumerate(x.dims))
    return x.with_dims(d for i, d in enumerate(x.dims) if i not in gone)


@irdl_op_definition
class ReduceOp(NNOp):
    """Combine along ``axes`` by ``fn``: sum, prod, max, min, any, all.

    An empty axis gives the identity (0, 1, -inf or the lowest integer, ...). Narrow floats
    accumulate in f32. Cost: one flop per element of ``x``. Errors: E0202.
    """

    name = "nn.reduce"
    x = operand_def(TensorType)
    fn = prop_def(StrAttr)
    axes = prop_def(IntsAttr)
    keepdims = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, fn: str, axes: tuple[int, ...], keepdims: bool) -> Spec:
        """The axes become 1 or go."""
        assert fn in COMBINERS, f"no combiner {fn!r}"
        check_kind(f"reduce {fn}", ("bool",) if fn in ("any", "all") else NUMBERS, x)
        return _reduced(x, axes, keepdims)

    @staticmethod
    def reference(x: Array, *, fn: str, axes: tuple[int, ...], keepdims: bool) -> Array:
        """Numpy's reduction, from the identity."""
        start = identity(fn, wide(x).dtype)
        with np.errstate(all="ignore"):
            y = COMBINERS[fn].reduce(  # type: ignore[attr-defined]
                wide(x), axis=axes, keepdims=keepdims, initial=start
            )
        return np.asarray(y).astype(x.dtype)

    @staticmethod
    def cost(x: Spec, *, fn: str, axes: tuple[int, ...], keepdims: bool) -> Expr:
        """One per element read."""
        return x.size


def identity(fn: str, dtype: np.dtype[np.generic]) -> int | float | bool:
    """What combining with changes nothing, as a number of ``dtype``."""
    if fn in ("any", "all"):
        return fn == "all"
    if fn in ("sum", "prod"):
        return 0 if fn == "sum" else 1
    if dtype == np.bool_:
        return fn == "min"
    if np.issubdtype(dtype, np.integer):
        info = ml_dtypes.iinfo(dtype)
        return int(info.min if fn == "max" else info.max)
    return -np.inf if fn == "max" else np.inf


@irdl_op_definition
class ArgReduceOp(NNOp):
    """The i64 index of the ``max`` or ``min`` along ``axis``; ``last`` picks the last of equals."""

    name = "nn.arg_reduce"
    x = operand_def(TensorType)
    fn = prop_def(StrAttr)
    axis = prop_def(IntAttr)
    keepdims = prop_def(FlagAttr, FlagAttr(False))
    last = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, fn: str, axis: int, keepdims: bool, last: bool) -> Spec:
        """The axis becomes 1 or goes; i64."""
        assert fn in ("max", "min"), f"no arg_reduce {fn!r}"
        check_kind("arg_reduce", NUMBERS, x)
        place = check_axis(axis, x.rank, "arg_reduce")
        check_filled("arg_reduce", "x", x.dims[place : place + 1])
        return _reduced(x, (axis,), keepdims).with_dtype(i64)

    @staticmethod
    def reference(x: Array, *, fn: str, axis: int, keepdims: bool, last: bool) -> Array:
        """Numpy's argmax or argmin, from the back for ``last``."""
        pick = np.argmax if fn == "max" else np.argmin
        if not last:
            return np.asarray(pick(wide(x), axis, keepdims=keepdims))
        turned = np.flip(wide(x), axis)
        return x.shape[axis] - 1 - np.asarray(pick(turned, axis, keepdims=keepdims))

    @staticmethod
    def cost(x: Spec, **attrs: object) -> Expr:
        """One comparison per element."""
        return x.size


@irdl_op_definition
class CumulativeOp(NNOp):
    """Running ``sum`` or ``prod`` along ``axis``; ``exclusive`` leaves each element's own out."""

    name = "nn.cumulative"
    x = operand_def(TensorType)
    fn = prop_def(StrAttr)
    axis = prop_def(IntAttr)
    exclusive = prop_def(FlagAttr, FlagAttr(False))
    reverse = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, fn: str, axis: int, exclusive: bool, reverse: bool) -> Spec:
        """As ``x``."""
        assert fn in ("sum", "prod"), f"no cumulative {fn!r}"
        check_axis(axis, x.rank, "cumulative")
        check_kind("cumulative", NUMBERS, x)
        return x

    @staticmethod
    def cost(x: Spec, **attrs: object) -> Expr:
        """One per element."""
        return x.size

    @staticmethod
    def reference(x: Array, *, fn: str, axis: int, exclusive: bool, reverse: bool) -> Array:
        """Accumulate, flipped for ``reverse``, shifted by one for ``exclusive``."""
        line = np.moveaxis(np.flip(wide(x), axis) if reverse else wide(x), axis, 0)
        run = COMBINERS[fn].accumulate(line, axis=0, dtype=line.dtype)  # type: ignore[attr-defined]
        if exclusive:
            first = np.full_like(run[:1], identity(fn, line.dtype))
            run = np.concatenate([first, run[:-1]])
        y = np.moveaxis(run, 0, axis).astype(x.dtype)
        return np.flip(y, axis) if reverse else y

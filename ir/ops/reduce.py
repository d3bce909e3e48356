"""Operators that combine the elements along axes."""

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ONE, Expr
from tapeout.ir.op import Array, NNOp
from tapeout.ir.scalars import COMBINERS
from tapeout.ir.shapes import check_axis
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
        return _reduced(x, axes, keepdims)

    @staticmethod
    def reference(x: Array, *, fn: str, axes: tuple[int, ...], keepdims: bool) -> Array:
        """Numpy's reduction, from the identity."""
        narrow = x.dtype.itemsize < 4 and not np.issubdtype(x.dtype, np.integer)
        wide = x.astype(np.float32) if narrow and x.dtype != np.bool_ else x
        with np.errstate(all="ignore"):
            y = COMBINERS[fn].reduce(  # type: ignore[attr-defined]
                wide, axis=axes, keepdims=keepdims, initial=identity(fn, wide.dtype)
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
        info = np.iinfo(dtype)
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
        return _reduced(x, (axis,), keepdims).with_dtype(i64)

    @staticmethod
    def reference(x: Array, *, fn: str, axis: int, keepdims: bool, last: bool) -> Array:
        """Numpy's argmax or argmin, from the back for ``last``."""
        pick = np.argmax if fn == "max" else np.argmin
        if not last:
            return np.asarray(pick(x, axis, keepdims=keepdims))
        return x.shape[axis] - 1 - np.asarray(pick(np.flip(x, axis), axis, keepdims=keepdims))

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
        return x

    @staticmethod
    def reference(x: Array, *, fn: str, axis: int, exclusive: bool, reverse: bool) -> Array:
        """Accumulate, flipped for ``reverse``, shifted by one for ``exclusive``."""
        line = np.moveaxis(np.flip(x, axis) if reverse else x, axis, 0)
        run = COMBINERS[fn].accumulate(line, axis=0, dtype=x.dtype)  # type: ignore[attr-defined]
        if exclusive:
            first = np.full_like(run[:1], identity(fn, x.dtype))
            run = np.concatenate([first, run[:-1]])
        y = np.moveaxis(run, 0, axis)
        return np.flip(y, axis) if reverse else y

    @staticmethod
    def cost(x: Spec, **attrs: object) -> Expr:
        """One per element."""
        return x.size

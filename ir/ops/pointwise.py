"""Operators that compute every element by itself."""

import ml_dtypes
import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, var_operand_def

from tapeout.ir import scalars
from tapeout.ir.dtypes import DType, boolean
from tapeout.ir.expr import Expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.scalars import SCALARS
from tapeout.ir.shapes import broadcast, check_kind, check_same_dtype, unsupported_type
from tapeout.ir.types import DTypeAttr, FlagAttr, Spec, StrAttr, TensorType


@irdl_op_definition
class MapOp(NNOp):
    """``y = fn(xs...)`` elementwise, operands broadcast as in numpy.

    ``fn`` names an entry of :data:`tapeout.ir.scalars.SCALARS`. Operands share one element type
    (the condition of ``where`` is bool); so does the result, or it is bool for a predicate.
    Cost: the function's flops per element. Errors: E0201, E0203, E0210.
    """

    name = "nn.map"
    fn = prop_def(StrAttr)
    xs = var_operand_def(TensorType)
    y = result_def(TensorType)

    @staticmethod
    def infer(xs: tuple[Spec, ...], *, fn: str) -> Spec:
        """Broadcast shape; the operands' type or bool."""
        scalar = SCALARS[fn]
        assert len(xs) == scalar.arity, f"{fn} takes {scalar.arity} operands, not {len(xs)}"
        values = xs[1:] if fn == "where" else xs
        if fn == "where":
            check_kind("the condition of where", ("bool",), xs[0])
        check_same_dtype(fn, *values)
        check_kind(fn, scalar.accepts, *values)
        dtype = boolean if scalar.returns_bool else xs[-1].dtype
        return Spec(broadcast(*(x.dims for x in xs)), dtype)

    @staticmethod
    def reference(xs: tuple[Array, ...], *, fn: str) -> Array:
        """Apply the scalar function."""
        return scalars.evaluate(fn, *xs)

    @staticmethod
    def cost(xs: tuple[Spec, ...], *, fn: str) -> Expr:
        """Flops of the function times the elements of the result."""
        return MapOp.infer(xs, fn=fn).size * SCALARS[fn].flops


@irdl_op_definition
class ConvertOp(NNOp):
    """``y = x`` in another element type.

    Float to integer truncates toward zero and wraps; anything to bool is ``!= 0``; float to a
    narrower float rounds to nearest even. With ``saturate`` out-of-range values (infinities
    too, for 8-bit floats) become the largest finite value instead of infinity or NaN.
    """

    name = "nn.convert"
    x = operand_def(TensorType)
    to = prop_def(DTypeAttr)
    saturate = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, to: DType, saturate: bool) -> Spec:
        """The same shape in type ``to``."""
        return x.with_dtype(to)

    @staticmethod
    def reference(x: Array, *, to: DType, saturate: bool) -> Array:
        """Cast with numpy, clipping first when saturating."""
        if to is boolean:
            return wide(x) != 0
        with np.errstate(all="ignore"):
            if saturate:
                x = _clipped(x, to)
            return x.astype(to.numpy)


@irdl_op_definition
class BitcastOp(NNOp):
    """The same bits read as another element type of the same width. Errors: E0210."""

    name = "nn.bitcast"
    x = operand_def(TensorType)
    to = prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, to: DType) -> Spec:
        """The same shape in type ``to``."""
        if x.dtype.bits != to.bits or "string" in (x.dtype.kind, to.kind):
            raise unsupported_type(f"bitcast to {to}", x.dtype, (f"types of {to.bits} bits",))
        return x.with_dtype(to)

    @staticmethod
    def reference(x: Array, *, to: DType) -> Array:
        """Numpy's view."""
        return np.ascontiguousarray(x).reshape(x.shape).view(to.numpy)


def _clipped(x: Array, to: DType) -> Array:
    if to.is_float:
        top = float(ml_dtypes.finfo(to.numpy).max)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return np.clip(wide(x), -top, top)
    info = ml_dtypes.iinfo(to.numpy)
    exact = x.astype(np.float64) if x.dtype.itemsize < 8 else x
    return np.clip(exact, int(info.min), int(info.max))

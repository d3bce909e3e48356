"""Scalar functions of the IR as Triton text, by name; operands are tiles of one type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeout.ir.dtypes import DType, boolean
from tapeout.ir.errors import CompileError

FLOATS: Mapping[str, str] = {
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, {0}))",
    "exp": "tl.exp({0})",
    "expm1": "to_expm1({0})",
    "log": "tl.log({0})",
    "log1p": "to_log1p({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "1.0 / tl.sqrt({0})",
    "reciprocal": "1.0 / {0}",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "tan": "tl.sin({0}) / tl.cos({0})",
    "asin": "to_asin({0})",
    "acos": "1.5707963267948966 - to_asin({0})",
    "atan": "to_atan({0})",
    "sinh": "to_sinh({0})",
    "cosh": "0.5 * (tl.exp({0}) + tl.exp(-{0}))",
    "tanh": "to_tanh({0})",
    "asinh": "to_asinh({0})",
    "acosh": "tl.log({0} + tl.sqrt({0} - 1.0) * tl.sqrt({0} + 1.0))",
    "atanh": "0.5 * (to_log1p({0}) - to_log1p(-{0}))",
    "erf": "tl.erf({0})",
    "sigmoid": "to_sigmoid({0})",
    "softplus": "to_softplus({0})",
    "mish": "{0} * to_tanh(to_softplus({0}))",
    "silu": "{0} * to_sigmoid({0})",
    "gelu": "0.5 * {0} * (1.0 + tl.erf({0} * 0.7071067811865476))",
    "gelu_tanh": (
        "0.5 * {0} * (1.0 + to_tanh(0.7978845608028654 * ({0} + 0.044715 * {0} * {0} * {0})))"
    ),
    "relu": "tl.where({0} < 0, 0.0, {0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "trunc": "to_trunc({0})",
    "round": "to_round({0})",
    "is_nan": "{0} != {0}",
    "is_inf": 'tl.abs({0}) == float("inf")',
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "floor_mod": "to_float_floor_mod({0}, {1})",
    "trunc_mod": "{0} - {1} * to_trunc({0} / {1})",
    "pow": "to_pow({0}, {1})",
    "min": "to_fmin({0}, {1})",
    "max": "to_fmax({0}, {1})",
    "fma": "tl.fma({0}, {1}, {2})",
}
INTEGERS: Mapping[str, str] = {
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0)).to({0}.dtype)",
    "relu": "tl.maximum({0}, 0 * {0})",
    "not": "~{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "to_div({0}, {1})",
    "floor_mod": "to_floor_mod({0}, {1})",
    "trunc_mod": "to_trunc_mod({0}, {1})",
    "pow": "to_whole_pow({0}.to(tl.float64), {1}.to(tl.float64)).to({0}.dtype)",
    "min": "tl.minimum({0}, {1})",
    "max": "tl.maximum({0}, {1})",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} ^ {1}",
    "shift_left": "to_shift_left({0}, {1}, {bits})",
    "shift_right": "to_shift_right({0}, {1}, {bits})",
}
BOOLEANS: Mapping[str, str] = {
    "not": "{0} == 0",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} ^ {1}",
}
ANY: Mapping[str, str] = {
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "where": "tl.where({0}, {1}, {2})",
}
TAKE_NUMBERS = frozenset(("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge", "where"))
REDUCTIONS: Mapping[str, str] = {
    "sum": "tl.sum({x}, axis={axis}, keep_dims=True)",
    "prod": "tl.reduce({x}, {axis}, to_product, keep_dims=True)",
    "min": "tl.reduce({x}, {axis}, to_least, keep_dims=True)",
    "max": "tl.reduce({x}, {axis}, to_most, keep_dims=True)",
    "any": "tl.max({x}.to(tl.int32), axis={axis}, keep_dims=True) != 0",
    "all": "tl.min({x}.to(tl.int32), axis={axis}, keep_dims=True) != 0",
}
"""By the name of a reduction. Minimum and maximum of floats give NaN where an element is one."""


def text(fn: str, dtype: DType, operands: Sequence[str]) -> str:
    """A call; ``dtype`` is that of the operands that share one. E0403 for an unknown function."""
    own = BOOLEANS if dtype is boolean else FLOATS if dtype.is_float else INTEGERS
    form = own.get(fn) or ANY.get(fn)
    if form is None:
        raise _unknown(fn, dtype)
    return form.format(*operands, bits=dtype.bits)


def takes_numbers(fn: str, dtype: DType) -> bool:
    """Whether a function means the same with a Python number as one operand of a block's type."""
    return fn in TAKE_NUMBERS or (fn == "div" and dtype.is_float)


def reduction(fn: str, dtype: DType, x: str, axis: int) -> str:
    """One axis of a tile combined, and kept with a size of 1."""
    if fn not in REDUCTIONS:
        raise _unknown(fn, dtype)
    form = REDUCTIONS[fn]
    if fn in ("min", "max") and not dtype.is_float:
        form = f"tl.{fn}({{x}}, axis={{axis}}, keep_dims=True)"
    if fn == "sum" and dtype.is_integer:
        form = "tl.sum({x}, axis={axis}, keep_dims=True, dtype={x}.dtype)"
    return form.format(x=x, axis=axis)


def _unknown(fn: str, dtype: DType) -> CompileError:
    facts = [("function", fn), ("of", dtype.name)]
    return CompileError("E0403", "a function has no form on GPUs", facts, "compile for cpu")

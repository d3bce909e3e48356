"""Expressions, element types and literals as Triton text. Names come from here, not from models."""

from __future__ import annotations

import math
from collections.abc import Mapping

import ml_dtypes

from tapeout.ir import dtypes
from tapeout.ir.dtypes import DType
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Call, ExprLike, Symbol, as_expr, is_at_least

POINTEES: Mapping[DType, str] = {
    dtypes.f64: "fp64",
    dtypes.f32: "fp32",
    dtypes.f16: "fp16",
    dtypes.bf16: "bf16",
    dtypes.f8e4m3fn: "fp8e4nv",
    dtypes.f8e5m2: "fp8e5",
    dtypes.i64: "i64",
    dtypes.i32: "i32",
    dtypes.i16: "i16",
    dtypes.i8: "i8",
    dtypes.u64: "u64",
    dtypes.u32: "u32",
    dtypes.u16: "u16",
    dtypes.u8: "u8",
    dtypes.boolean: "u8",
}
"""What a pointer to each element type is called in a kernel's signature."""

_NAMES: Mapping[str, str] = {
    "fp64": "float64",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8e4nv": "float8e4nv",
    "fp8e5": "float8e5",
}


def pointee(dtype: DType) -> str:
    """The name of an element type in a signature; E0403 for a type that GPUs have no form of."""
    if dtype not in POINTEES:
        raise CompileError(
            "E0403",
            "an element type has no form on GPUs",
            [("type", dtype.name)],
            "convert the tensor to another type, or compile for cpu",
        )
    return POINTEES[dtype]


def stored(dtype: DType) -> str:
    """The type of an element in memory."""
    name = pointee(dtype)
    return f"tl.{_NAMES.get(name) or name.replace('i', 'int').replace('u', 'uint')}"


def register(dtype: DType) -> str:
    """The type that values are computed in: floats below 32 bits in f32, bools in one bit."""
    if dtype is dtypes.boolean:
        return "tl.int1"
    return "tl.float32" if dtype.is_float and dtype.bits < 32 else stored(dtype)


def dim_name(symbol: str) -> str:
    """The name of a dimension, apart from every loop variable."""
    return f"dim_{symbol}"


def py_expr(value: ExprLike, names: Mapping[str, str]) -> str:
    """An integer expression; ``names`` maps symbols to text."""
    text = ""
    for monomial, c in as_expr(value).terms:
        factors = [_atom(atom, names) for atom in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
        text += sign + " * ".join(factors)
    return text or "0"


def py_factor(value: ExprLike, names: Mapping[str, str]) -> str:
    """As :func:`py_expr`, in parentheses unless it is one number, name or call."""
    text, expr = py_expr(value, names), as_expr(value)
    return text if expr.atom is not None or text.isdigit() else f"({text})"


def _atom(atom: Symbol | Call, names: Mapping[str, str]) -> str:
    if isinstance(atom, Symbol):
        return names.get(atom.name, atom.name)
    args = [py_factor(a, names) for a in atom.args]
    if atom.fn in ("min", "max"):
        text = args[0]
        for other in args[1:]:
            text = f"to_{atom.fn}({text}, {other})"
        return text
    # Triton divides integers toward zero, as C does.
    if all(is_at_least(a, 0) for a in atom.args):
        return f"({args[0]} {'//' if atom.fn == 'floordiv' else '%'} {args[1]})"
    return f"to_{atom.fn}({args[0]}, {args[1]})"


def literal(value: float, dtype: DType) -> str:
    """A constant; floats so that no bit is lost."""
    if dtype is dtypes.boolean:
        return str(bool(value))
    if not dtype.is_float:
        return str(int(value))
    if math.isnan(value):
        return 'float("nan")'
    return f'float("{"-" if value < 0 else ""}inf")' if math.isinf(value) else repr(float(value))


def limits(dtype: DType) -> tuple[str, str]:
    """The least and the largest finite value of an element type."""
    if dtype.is_float:
        top = float(ml_dtypes.finfo(dtype.numpy).max)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return repr(-top), repr(top)
    info = ml_dtypes.iinfo(dtype.numpy)
    return str(int(info.min)), str(int(info.max))

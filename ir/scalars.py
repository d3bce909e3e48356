"""Scalar functions: what one element of an ``nn.map`` (or a tile map) computes.

One entry here gives a function to every target: its numpy meaning, its cost, the element types
that it accepts and its result type. Operands share one element type and so does the result,
unless ``returns_bool``. Floats narrower than 32 bits are computed in f32 and rounded once.

Integers: arithmetic wraps; ``div`` and ``trunc_mod`` truncate toward zero, ``floor_mod`` takes
the sign of the divisor, and all three give 0 for a zero divisor; ``pow`` goes through f64;
shifts by the width or more give 0. ``not``, ``and``, ``or`` and ``xor`` are bitwise, and logical
on bool, which has no arithmetic. ``where`` takes a bool condition and any element type.
Floats: IEEE 754, ``min`` and ``max`` propagate NaN, ``round`` goes to even.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.ir.dtypes import Kind, dtype_of
from tapeout.ir.erf import erf
from tapeout.ir.numeric import wide

Array = np.ndarray[Any, Any]

FLOATS: tuple[Kind, ...] = ("float",)
INTEGERS: tuple[Kind, ...] = ("int", "uint")
NUMBERS: tuple[Kind, ...] = ("float", "int", "uint")
ARITHMETIC: tuple[Kind, ...] = (*NUMBERS, "complex")
BITS: tuple[Kind, ...] = ("bool", "int", "uint")
ANY: tuple[Kind, ...] = ("float", "int", "uint", "bool", "string", "complex")


@dataclass(frozen=True, slots=True)
class Scalar:
    """``name`` with ``arity`` operands; ``flops`` counts a transcendental as one."""

    name: str
    arity: int
    reference: Callable[..., Array]
    flops: int = 1
    returns_bool: bool = False
    accepts: tuple[Kind, ...] = FLOATS


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


def _softplus(x: Array) -> Array:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


def _gelu(x: Array) -> Array:
    return (0.5 * x * (1 + erf(x / math.sqrt(2)))).astype(x.dtype)


def _gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return (0.5 * x * (1 + np.tanh(inner))).astype(x.dtype)


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _reciprocal(x: Array) -> Array:
    return 1 / x


def _mish(x: Array) -> Array:
    return x * np.tanh(_softplus(x))


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _relu(x: Array) -> Array:
    return np.maximum(x, np.zeros((), x.dtype))


def _fma(a: Array, b: Array, c: Array) -> Array:
    return a * b + c


def _where(c: Array, a: Array, b: Array) -> Array:
    return np.where(c, a, b)


def _divide(a: Array, b: Array) -> Array:
    if not dtype_of(a).is_integer:
        return a / b
    quotient = np.abs(a) // np.where(b == 0, 1, np.abs(b))
    signed = np.where((a < 0) == (b < 0), quotient, -quotient)
    return np.where(b == 0, 0, signed).astype(a.dtype)


def _floor_mod(a: Array, b: Array) -> Array:
    if not dtype_of(a).is_integer:
        return np.mod(a, b)
    return np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b))).astype(a.dtype)


def _trunc_mod(a: Array, b: Array) -> Array:
    if not dtype_of(a).is_integer:
        return np.fmod(a, b)
    return np.where(b == 0, 0, np.fmod(a, np.where(b == 0, 1, b))).astype(a.dtype)


def _power(a: Array, b: Array) -> Array:
    if not dtype_of(a).is_integer:
        return np.power(a, b)
    return np.power(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)


def _shift(left: bool) -> Callable[[Array, Array], Array]:
    def shift(a: Array, b: Array) -> Array:
        move = np.left_shift if left else np.right_shift
        inside = b < dtype_of(a).bits
        return np.where(inside, move(a, np.where(inside, b, 0)), 0).astype(a.dtype)

    return shift


def _and(a: Array, b: Array) -> Array:
    return np.bitwise_and(a, b)


def _bool(
    name: str, arity: int, reference: Callable[..., Any], accepts: tuple[Kind, ...]
) -> Scalar:
    return Scalar(name, arity, reference, returns_bool=True, accepts=accepts)


SCALARS: Mapping[str, Scalar] = {
    s.name: s
    for s in (
        Scalar("neg", 1, np.negative, accepts=ARITHMETIC),
        Scalar("abs", 1, np.abs, accepts=NUMBERS),
        Scalar("sign", 1, np.sign, accepts=NUMBERS),
        Scalar("exp", 1, np.exp),
        Scalar("expm1", 1, np.expm1),
        Scalar("log", 1, np.log),
        Scalar("log1p", 1, np.log1p),
        Scalar("sqrt", 1, np.sqrt),
        Scalar("rsqrt", 1, _rsqrt, flops=2),
        Scalar("reciprocal", 1, _reciprocal),
        Scalar("sin", 1, np.sin),
        Scalar("cos", 1, np.cos),
        Scalar("tan", 1, np.tan),
        Scalar("asin", 1, np.arcsin),
        Scalar("acos", 1, np.arccos),
        Scalar("atan", 1, np.arctan),
        Scalar("sinh", 1, np.sinh),
        Scalar("cosh", 1, np.cosh),
        Scalar("tanh", 1, np.tanh),
        Scalar("asinh", 1, np.arcsinh),
        Scalar("acosh", 1, np.arccosh),
        Scalar("atanh", 1, np.arctanh),
        Scalar("erf", 1, erf),
        Scalar("sigmoid", 1, _sigmoid, flops=3),
        Scalar("softplus", 1, _softplus, flops=4),
        Scalar("mish", 1, _mish, flops=6),
        Scalar("silu", 1, _silu, flops=4),
        Scalar("gelu", 1, _gelu, flops=5),
        Scalar("gelu_tanh", 1, _gelu_tanh, flops=8),
        Scalar("relu", 1, _relu, accepts=NUMBERS),
        Scalar("floor", 1, np.floor),
        Scalar("ceil", 1, np.ceil),
        Scalar("trunc", 1, np.trunc),
        Scalar("round", 1, np.round),
        Scalar("not", 1, np.invert, accepts=BITS),
        _bool("is_nan", 1, np.isnan, FLOATS),
        _bool("is_inf", 1, np.isinf, FLOATS),
        Scalar("add", 2, np.add, accepts=ARITHMETIC),
        Scalar("sub", 2, np.subtract, accepts=ARITHMETIC),
        Scalar("mul", 2, np.multiply, accepts=ARITHMETIC),
        Scalar("div", 2, _divide, accepts=ARITHMETIC),
        Scalar("floor_mod", 2, _floor_mod, accepts=NUMBERS),
        Scalar("trunc_mod", 2, _trunc_mod, accepts=NUMBERS),
        Scalar("pow", 2, _power, flops=3, accepts=NUMBERS),
        Scalar("min", 2, np.minimum, accepts=NUMBERS),
        Scalar("max", 2, np.maximum, accepts=NUMBERS),
        Scalar("and", 2, _and, accepts=BITS),
        Scalar("or", 2, np.bitwise_or, accepts=BITS),
        Scalar("xor", 2, np.bitwise_xor, accepts=BITS),
        Scalar("shift_left", 2, _shift(left=True), accepts=INTEGERS),
        Scalar("shift_right", 2, _shift(left=False), accepts=INTEGERS),
        _bool("eq", 2, np.equal, ANY),
        _bool("ne", 2, np.not_equal, ANY),
        _bool("lt", 2, np.less, NUMBERS),
        _bool("le", 2, np.less_equal, NUMBERS),
        _bool("gt", 2, np.greater, NUMBERS),
        _bool("ge", 2, np.greater_equal, NUMBERS),
        # Rounded once where the target has the instruction; the reference rounds twice.
        Scalar("fma", 3, _fma, flops=2),
        Scalar("where", 3, _where, accepts=ANY),
    )
}

# How a reduction or a scatter combines two values, with what it starts from.
COMBINERS: Mapping[str, Callable[..., Array]] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def evaluate(fn: str, *operands: Array) -> Array:
    """Apply a scalar function elementwise with numpy broadcasting; IEEE results, no warnings."""
    scalar = SCALARS[fn]
    dtype = operands[-1].dtype
    with np.errstate(all="ignore"):
        result = np.asarray(scalar.reference(*map(wide, operands)))
    return result if scalar.returns_bool else result.astype(dtype)

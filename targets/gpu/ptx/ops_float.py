"""Floating-point arithmetic of every width, and the opcodes that floats share with integers.

Each operation is computed exactly enough to be rounded once. Approximations (``ex2.approx``,
``tanh.approx``, ...) give the nearest value, which is within every error bound that the ISA
states. Source: PTX ISA 8.8, 9.7.3 to 9.7.5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, Format
from tapeout.targets.gpu.ptx.ops_integer import integer, typed
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.rounding import flush, fma, fma_f32, odd_sum, to_f32
from tapeout.targets.gpu.ptx.text import Instruction

Array = npt.NDArray[Any]
Compute = Callable[..., Array]
Unary = Callable[[Array], Array]

DIRECTED = {"rz", "rm", "rp"}
ACCURACY = {"rn", "approx", "full", "sat", "ftz", "noftz", "NaN", *DIRECTED}


def least(a: Array, b: Array) -> Array:
    """Return the smaller number; -0 is below +0, and a number wins over NaN."""
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), a, b), np.fmin(a, b))


def greatest(a: Array, b: Array) -> Array:
    """Return the larger number; +0 is above -0, and a number wins over NaN."""
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), b, a), np.fmax(a, b))


def with_nan(compute: Compute) -> Compute:
    """Return ``compute``, but NaN where an operand is."""

    def run(a: Array, b: Array) -> Array:
        return np.where(np.isnan(a) | np.isnan(b), a + b, compute(a, b))

    return run


def copy_sign(a: Array, b: Array) -> Array:
    """Return ``b`` with the sign of ``a``."""
    return np.copysign(b, a)


def in_f64(function: Unary) -> Unary:
    """Return ``function`` computed in binary64 and rounded to its operand's type."""
    return lambda a: function(a.astype(np.float64)).astype(a.dtype)


ANY: dict[str, Compute] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": least,
    "max": greatest,
    "neg": np.negative,
    "abs": np.abs,
    "copysign": copy_sign,
    "sqrt": np.sqrt,
    "rcp": np.reciprocal,
    "rsqrt": in_f64(lambda a: 1 / np.sqrt(a)),
    "ex2": in_f64(np.exp2),
    "lg2": in_f64(np.log2),
    "sin": in_f64(np.sin),
    "cos": in_f64(np.cos),
    "tanh": in_f64(np.tanh),
}


def odd_difference(a: Array, b: Array) -> Array:
    """Return ``a - b`` of binary64 arrays, rounded to odd."""
    return odd_sum(a, -b)


# binary64 sums and products that a directed rounding to binary32 can start from.
EXACT: dict[str, Compute] = {
    "add": odd_sum,
    "sub": odd_difference,
    "mul": np.multiply,
}


def divide_approx(a: Array, b: Array) -> Array:
    """Return ``a / b``; ``div.approx`` gives zero where ``b`` is above 2**126."""
    quotient = a / b
    huge = (np.abs(b) > np.float32(2.0**126)) & np.isfinite(a) & np.isfinite(b)
    return np.where(huge, np.copysign(np.float32(0), quotient), quotient)


def fma_of(fmt: Format, mode: str) -> Compute:
    """Return ``a * b + c`` rounded once to ``fmt``."""
    if fmt.name == "f64":
        return fma_f64
    if fmt.name == "f32":
        return fma_f32 if mode == "rn" else partial(fma_directed, mode)
    return fma


def fma_directed(mode: str, a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c`` of binary32, rounded once towards ``mode``."""
    return to_f32(fma(a, b, c), mode)


def fma_f64(a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c`` in binary64 through the widest type at hand (x86: 64 bits)."""
    wide = a.astype(np.longdouble) * b.astype(np.longdouble) + c.astype(np.longdouble)
    return wide.astype(np.float64)


def directed(root: str, mode: str) -> Compute:
    """Return an operation on binary32 rounded towards ``mode``."""
    exact = EXACT[root]
    return lambda *v: to_f32(exact(*[x.astype(np.float64) for x in v]), mode)


def flushed(compute: Compute) -> Compute:
    """Return ``compute`` with subnormal operands and results as zeros (``.ftz``)."""
    return lambda *values: flush(compute(*[flush(v) for v in values]))


def clamped(compute: Compute) -> Compute:
    """Return ``compute`` held to 0..1, NaN as 0 (``.sat``)."""
    return lambda *values: np.clip(np.nan_to_num(compute(*values)), 0, 1)


def rectified(compute: Compute) -> Compute:
    """Return ``compute`` with zero for what is negative (``.relu``)."""

    def run(*values: Array) -> Array:
        out = compute(*values)
        return np.where(np.isnan(out), out, np.maximum(out, 0))

    return run


def floating(program: Program, i: Instruction) -> Step:
    """Decode what takes floats and gives one, or hand over to the integers."""
    fmt, rest = typed(i)
    if fmt.kind not in ("f", "half"):
        return integer(program, i)
    if rest - ACCURACY - {"relu"}:
        raise unknown(i, f"'{'.'.join(i.modifiers)}'")
    mode = next(iter(rest & DIRECTED), "rn")
    sources = len(i.operands) - 1
    if i.root in ("fma", "mad"):
        compute = fma_of(fmt, mode)
    elif i.root not in ANY:
        raise unknown(i, f"'{i.root}' of {fmt.name}")
    elif mode != "rn":
        if i.root not in EXACT or fmt.name != "f32":
            raise unknown(i, f"the rounding '{mode}' of {i.root}.{fmt.name}")
        compute = directed(i.root, mode)
    else:
        compute = ANY[i.root]
        if i.root == "div" and "approx" in rest:
            compute = divide_approx
    if "NaN" in rest:
        compute = with_nan(compute)
    if fmt.name == "f32" and "ftz" in rest:
        compute = flushed(compute)
    if "sat" in rest:
        compute = clamped(compute)
    if "relu" in rest:
        compute = rectified(compute)
    return program.elementwise(i, compute, fmt, [fmt] * sources)


def is_normal(a: Array) -> Array:
    """Return where a number has its full precision."""
    return np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny)


TESTS: dict[str, Unary] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda a: ~np.isnan(a),
    "notanumber": np.isnan,
    "normal": is_normal,
    "subnormal": lambda a: np.isfinite(a) & (a != 0) & ~is_normal(a),
}


def testp(program: Program, i: Instruction) -> Step:
    """Decode a test of what kind of number a float is."""
    fmt, _ = typed(i)
    return program.elementwise(i, TESTS[i.modifiers[0]], FORMATS["pred"], [fmt])


SHARED = ("add", "sub", "mul", "mad", "div", "min", "max", "neg", "abs")
FLOAT = ("fma", "copysign", "sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
DECODERS: dict[str, Decoder] = {**dict.fromkeys((*SHARED, *FLOAT), floating), "testp": testp}

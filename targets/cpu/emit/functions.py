"""How each scalar function is written on vectors, by carrier type."""

from collections.abc import Mapping, Sequence

from tapeout.ir import dtypes
from tapeout.ir.dtypes import DType

INFIX: Mapping[str, str] = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
PREDICATES = ("eq", "ne", "lt", "le", "gt", "ge")
BITWISE: Mapping[str, str] = {"and": "&", "or": "|", "xor": "^"}


def map_text(fn: str, args: Sequence[str], dtype: DType, result_bool: bool) -> str:
    """A C expression for ``fn`` on vectors of the carrier of ``dtype`` (the operands' type)."""
    t = dtype.name
    if fn == "where":
        return f"v_sel_{t}({', '.join(args)})"
    if fn in PREDICATES:
        return f"v_bool_{t}(v_{fn}_{t}({', '.join(args)}))"
    if fn in BITWISE:
        return f"({args[0]} {BITWISE[fn]} {args[1]})"
    if fn in ("is_nan", "is_inf"):
        return f"v_bool_{t}(v_{fn}_{t}({args[0]}))"
    if dtype.is_float and fn in INFIX:
        return f"({args[0]} {INFIX[fn]} {args[1]})"
    if fn == "relu":
        return f"v_max_{t}({args[0]}, v_zero_{t}())"
    if fn == "reciprocal":
        return f"(v_splat_{t}(1) / {args[0]})"
    return f"v_{fn}_{t}({', '.join(args)})"


def not_text(arg: str, dtype: DType, is_bool: bool) -> str:
    """Logical not of stored bools, bitwise not of integers."""
    return f"({arg} ^ 1)" if is_bool else f"(~{arg})"


COMBINE: Mapping[str, str] = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}


def combine_text(fn: str, a: str, b: str, dtype: DType) -> str:
    """Two vectors combined as a reduction does."""
    if fn in ("any", "all"):
        return f"({a} {'|' if fn == 'any' else '&'} {b})"
    return map_text(COMBINE[fn], [a, b], dtype, False)


def horizontal_text(fn: str, a: str, dtype: DType) -> str:
    """The lanes of one vector combined to a scalar."""
    return f"v_h{fn}_{dtype.name}({a})"


def clamp_text(a: str, source: DType, to: DType) -> tuple[str, DType]:
    """A vector limited to the range of an integer type, in a type that holds both exactly.

    The ends of 64-bit types are no floats: the largest below stands for the upper one.
    """
    low, high = (-(1 << to.bits - 1), (1 << to.bits - 1) - 1)
    low, high = (low, high) if to.kind == "int" else (0, (1 << to.bits) - 1)
    hub = dtypes.f64 if source.is_float else dtypes.i64
    if source is dtypes.f32 and to.bits <= 16:
        hub = dtypes.f32
    if source is dtypes.u64:
        # Too large for the signed hub is too large for every type but its own.
        a = f"v_min_u64({a}, v_splat_u64({min(high, (1 << 63) - 1)}))"
    a = convert_text(a, source, hub)
    if hub.is_float:
        top = float(high) if to.bits < 64 else float(high - (1 << to.bits - 54))
        low_text, high_text = f"{low}.0", f"{top:.1f}"
    else:
        low_text = "INT64_MIN" if to.bits == 64 and low else str(low)
        high_text = str(min(high, (1 << 63) - 1))
    t = hub.name
    return f"v_max_{t}(v_min_{t}({a}, v_splat_{t}({high_text})), v_splat_{t}({low_text}))", hub


def convert_text(a: str, source: DType, to: DType) -> str:
    """A vector in another carrier type."""
    if to is source:
        return a
    return f"v_cvt_{source.name}_{to.name}({a})"

"""Expressions and element types as C text. Identifiers come from here, never from a model."""

from collections.abc import Mapping, Sequence

from tapeout.ir import dtypes
from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Call, Expr, ExprLike, Monomial, Symbol, as_expr, bounds

# What a vector register of each element type holds: narrow floats travel as f32, bools and
# sub-byte integers as bytes.
CARRIERS: Mapping[DType, DType] = {
    dtypes.f16: dtypes.f32,
    dtypes.bf16: dtypes.f32,
    dtypes.f8e4m3fn: dtypes.f32,
    dtypes.f8e4m3fnuz: dtypes.f32,
    dtypes.f8e5m2: dtypes.f32,
    dtypes.f8e5m2fnuz: dtypes.f32,
    dtypes.f8e8m0: dtypes.f32,
    dtypes.f4e2m1: dtypes.f32,
    dtypes.boolean: dtypes.u8,
    dtypes.i4: dtypes.i8,
    dtypes.i2: dtypes.i8,
    dtypes.u4: dtypes.u8,
    dtypes.u2: dtypes.u8,
}


def carrier(dtype: DType) -> DType:
    """The type that values of ``dtype`` are computed in."""
    return CARRIERS.get(dtype, dtype)


def is_stored_narrow(dtype: DType) -> bool:
    """Whether loads and stores of this float type convert from and to f32."""
    return dtype.is_float and dtype.bits < 32


def c_type(dtype: DType) -> str:
    """The C type of one element in memory; narrow floats have typedefs of their own."""
    if dtype is dtypes.boolean:
        return "u8"
    return dtype.name if is_stored_narrow(dtype) else carrier(dtype).name


def dim_name(symbol: str) -> str:
    """The C name of a dimension symbol, apart from every loop variable."""
    return f"dim_{symbol}"


def c_expr(value: ExprLike, names: Mapping[str, str] | None = None) -> str:
    """An i64 expression in C; ``names`` maps symbols to C text."""
    names = names or {}
    expr = as_expr(value)
    if not expr.terms:
        return "0"
    text = ""
    for monomial, c in expr.terms:
        factors = [_atom(atom, names) for atom in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
        text += sign + " * ".join(factors)
    return text


def c_factor(value: ExprLike, names: Mapping[str, str] | None = None) -> str:
    """As :func:`c_expr`, parenthesised unless it is one number or name."""
    text = c_expr(value, names)
    return text if text.replace("_", "").isalnum() else f"({text})"


def _atom(atom: Symbol | Call, names: Mapping[str, str]) -> str:
    if isinstance(atom, Symbol):
        return names.get(atom.name, atom.name)
    args = [c_factor(a, names) for a in atom.args]
    if atom.fn in ("min", "max"):
        text = args[0]
        for other in args[1:]:
            text = f"to_{atom.fn}({text}, {other})"
        return text
    if _never_negative(atom.args[0]) and _never_negative(atom.args[1]):
        return f"({args[0]} {'/' if atom.fn == 'floordiv' else '%'} {args[1]})"
    return f"to_{atom.fn}({args[0]}, {args[1]})"


def _never_negative(value: Expr) -> bool:
    low = bounds(value)[0]
    return low is not None and low >= 0


def c_string(text: str) -> str:
    """Any text as a C string literal of printable ASCII; nothing in it can end the literal."""
    out: list[str] = []
    for byte in text.encode("utf-8", "surrogatepass"):
        c = chr(byte)
        plain = (c.isalnum() and byte < 128) or c in " _-.,:;/+*()[]<>=!#@"
        out.append(c if plain else f"\\{byte:03o}")
    # Two question marks in a row would be a trigraph to some compilers: "?" is always escaped.
    return '"' + "".join(out) + '"'


def literal(value: float, dtype: DType) -> str:
    """A constant of a carrier type in C; floats in hexadecimal, so that no bit is lost."""
    if dtype.is_float:
        suffix = "f" if dtype is dtypes.f32 else ""
        number = float(value)
        if number != number:
            return f'__builtin_nan{suffix}("")'
        if number in (float("inf"), float("-inf")):
            return f"{'-' if number < 0 else ''}__builtin_inf{suffix}()"
        return f"{number.hex() if number != int(number) or abs(number) > 1e6 else number}{suffix}"
    number = int(value)
    if number == -(2**63):
        return "INT64_MIN"
    return f"{number}" + ("u" if dtype.kind == "uint" and number > 2**31 else "")


def c_size(value: ExprLike, names: Mapping[str, str]) -> str:
    """A size in C; INT64_MAX where it overflows.

    Arithmetic saturates in the runtime's ``rt_add``, ``rt_mul`` and so on; a saturated operand
    makes every result saturated, so that too large a size never looks like a small one. Divisors
    are not 0: guards see to that.
    """
    expr = as_expr(value)
    plus = [_size_term(m, c, names) for m, c in expr.terms if c > 0]
    minus = [_size_term(m, -c, names) for m, c in expr.terms if c < 0]
    if not minus:
        return _size_sum(plus)
    return f"rt_sub({_size_sum(plus)}, {_size_sum(minus)})"


def _size_sum(terms: Sequence[str]) -> str:
    text = terms[0] if terms else "0"
    for other in terms[1:]:
        text = f"rt_add({text}, {other})"
    return text


def _size_term(monomial: Monomial, factor: int, names: Mapping[str, str]) -> str:
    factors = [_size_atom(atom, names) for atom in monomial]
    if factor != 1 or not factors:
        factors.append(f"INT64_C({factor})")
    text = factors[0]
    for other in factors[1:]:
        text = f"rt_mul({text}, {other})"
    return text


def _size_atom(atom: Symbol | Call, names: Mapping[str, str]) -> str:
    if isinstance(atom, Symbol):
        return names.get(atom.name, atom.name)
    args = [c_size(a, names) for a in atom.args]
    if atom.fn in ("floordiv", "mod"):
        return f"rt_{'div' if atom.fn == 'floordiv' else 'mod'}({args[0]}, {args[1]})"
    text = args[0]
    for other in args[1:]:
        text = f"rt_{atom.fn}({text}, {other})"
    return text

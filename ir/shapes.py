"""Shape rules that several operators share, with the errors they give.

Each rule refuses what can never go together, and assumes the rest (:mod:`tapeout.ir.assumptions`):
no operator compares sizes in any other way.
"""

from collections.abc import Sequence

from tapeout.ir.assumptions import may_be_at_least, may_equal
from tapeout.ir.dtypes import DType
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr, as_symbol, bounds, is_at_least, minimum
from tapeout.ir.types import Spec


def broadcast(*shapes: Sequence[Expr]) -> tuple[Expr, ...]:
    """Numpy's broadcast of symbolic shapes; E0201 when two sizes can never agree.

    A symbol against another size is assumed to equal it: a 1 of the run is not repeated.
    """
    rank = max(map(len, shapes), default=0)
    padded = [(ONE,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(_common(sizes, shapes) for sizes in zip(*padded, strict=True))


def _common(sizes: Sequence[Expr], shapes: Sequence[Sequence[Expr]]) -> Expr:
    wide = list(dict.fromkeys(s for s in sizes if s != 1))
    chosen = next((s for s in wide if s.constant is not None), wide[0] if wide else ONE)
    if not all(may_equal(s, chosen, _repeat_fix(s, chosen)) for s in wide):
        raise CompileError(
            "E0201",
            "shapes do not broadcast",
            [("shapes", " and ".join(shape_text(s) for s in shapes))],
            "make the sizes equal, or 1 where one operand is to be repeated",
        )
    return chosen


def _repeat_fix(a: Expr, b: Expr) -> str:
    """What to do who wants an operand repeated along an axis that is compiled as equal."""
    names = list(dict.fromkeys(str(s) for e in (a, b) for s in e.symbols() if as_symbol(e)))
    ones = " or ".join(f"--dim {name}=1" for name in names)
    return f"give equal sizes; to repeat an operand of size 1, compile with {ones}" if ones else ""


def never_equal(a: Expr, b: Expr) -> bool:
    """Whether two sizes differ for all symbol values."""
    return is_at_least(a - b, 1) or is_at_least(b - a, 1)


def shape_text(dims: Sequence[Expr]) -> str:
    """``[B, S, 384]``."""
    return "[" + ", ".join(map(str, dims)) + "]"


def check_axis(axis: int, rank: int, op: str) -> int:
    """The axis counted from the front; E0202 when it is out of range."""
    if not -rank <= axis < rank:
        raise CompileError(
            "E0202",
            f"{op}: axis {axis} is out of range for rank {rank}",
            fix=f"use an axis from {-rank} to {rank - 1}",
        )
    return axis % rank


def check_same_dtype(op: str, *values: Spec) -> None:
    """E0203 when element types differ."""
    if len({v.dtype for v in values}) > 1:
        raise CompileError(
            "E0203",
            f"{op}: element types differ",
            [("types", ", ".join(str(v.dtype) for v in values))],
            "convert the operands to one type",
        )


def misfit(op: str, *values: tuple[str, Sequence[Expr]], fix: str = "") -> CompileError:
    """E0209: the shapes of the operands do not go together."""
    facts = [(name, shape_text(dims)) for name, dims in values]
    return CompileError("E0209", f"{op}: the shapes do not fit together", facts, fix)


def check_rank(op: str, name: str, value: Spec, rank: int) -> None:
    """E0209 when an operand has another rank."""
    if value.rank != rank:
        raise misfit(op, (name, value.dims), fix=f"{name} has {rank} axes")


def check_dims(op: str, name: str, have: Sequence[Expr], want: Sequence[Expr]) -> None:
    """E0209 when two shapes can never be the same."""
    if len(have) != len(want) or not all(map(may_equal, have, want)):
        raise misfit(op, (name, have), ("expected", want))


def check_broadcasts_to(op: str, name: str, have: Sequence[Expr], want: Sequence[Expr]) -> None:
    """E0209 when ``have`` cannot be repeated to ``want`` without widening it."""
    if not broadcasts_to(have, want):
        raise misfit(op, (name, have), ("expected", want))


def broadcasts_to(have: Sequence[Expr], want: Sequence[Expr]) -> bool:
    """Whether one shape can be repeated to another; sizes other than 1 are assumed equal."""
    if len(have) > len(want):
        return False
    tail = want[len(want) - len(have) :]
    pairs = [(a, b) for a, b in zip(have, tail, strict=True) if a != 1]
    return all(may_equal(a, b, _repeat_fix(a, b)) for a, b in pairs)


def check_filled(op: str, name: str, dims: Sequence[Expr], readers: Expr = ONE) -> None:
    """E0209 when an axis is empty that ``readers`` elements of a result are read from."""
    for dim in dims:
        if bounds(dim)[0] in (None, 0) and not may_be_at_least(dim, minimum(1, readers)):
            raise misfit(op, (name, dims), fix=f"{name} has no empty axis")


def check_inside(op: str, name: str, have: Sequence[Expr], room: Sequence[Expr]) -> None:
    """E0209 when ``have`` is larger than ``room`` along an axis."""
    if not all(map(may_be_at_least, room, have)):
        raise misfit(op, (name, have), ("at most", room))


def check_float(op: str, *values: Spec) -> None:
    """E0210 when an operand is not floating point."""
    check_kind(op, ("float",), *values)


def check_index(op: str, value: Spec) -> None:
    """E0210 when an operand of indices or lengths is neither i32 nor i64."""
    if value.dtype.kind != "int" or value.dtype.bits < 32:
        raise unsupported_type(op, value.dtype, ("i32", "i64"))


def check_kind(op: str, kinds: Sequence[str], *values: Spec) -> None:
    """E0210 when an operand's element type is of no kind in ``kinds``."""
    for value in values:
        if value.dtype.kind not in kinds:
            raise unsupported_type(op, value.dtype, kinds)


def unsupported_type(op: str, dtype: DType, kinds: Sequence[str]) -> CompileError:
    """E0210: the operator has no meaning for this element type."""
    return CompileError(
        "E0210",
        f"{op} has no meaning for element type {dtype}",
        [("accepted", ", ".join(kinds))],
        "convert the operand first",
    )


def replaced(dims: Sequence[Expr], axis: int, *sizes: Expr) -> tuple[Expr, ...]:
    """``dims`` with the one at ``axis`` replaced by ``sizes``."""
    return (*dims[:axis], *sizes, *dims[axis + 1 :])

"""Shape rules that several operators share, with the errors they give."""

from collections.abc import Sequence

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr, is_at_least
from tapeout.ir.types import Spec


def broadcast(*shapes: Sequence[Expr]) -> tuple[Expr, ...]:
    """Numpy's broadcast of symbolic shapes; E0201 when two sizes can never agree.

    A symbol against another size is taken to equal it: the run-time guard of the symbol holds
    it to that.
    """
    rank = max(map(len, shapes), default=0)
    padded = [(ONE,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(_common(sizes, shapes) for sizes in zip(*padded, strict=True))


def _common(sizes: Sequence[Expr], shapes: Sequence[Sequence[Expr]]) -> Expr:
    wide = list(dict.fromkeys(s for s in sizes if s != 1))
    fixed = [s for s in wide if s.constant is not None]
    if len(fixed) > 1 or (len(wide) > 1 and never_equal(wide[0], wide[1])):
        raise CompileError(
            "E0201",
            "shapes do not broadcast",
            [("shapes", " and ".join(shape_text(s) for s in shapes))],
            "make the sizes equal, or 1 where one operand is to be repeated",
        )
    return (fixed or wide or [ONE])[0]


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

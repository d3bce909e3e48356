"""Proofs about expressions that need more than the bounds of their symbols.

``is_at_least`` bounds every term by itself. Here a ``min``, ``max``, ``//`` or ``%`` inside of an
expression is replaced by what it is at least (or at most), one after the other, so that
``n - min(s, n) - max(0, min(e, n) - min(s, n)) >= 0``, the end of a clamped slice, is proved.
"""

from collections.abc import Iterator

from tapeout.ir.expr import Call, Expr, ExprLike, as_expr, is_at_least

DEPTH = 6
"""Calls replaced in a row; clamped slices take three."""


def proves_at_least(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value >= bound`` is proved for all symbol values; False means unknown."""
    return _proves(as_expr(value) - bound, DEPTH)


def _proves(value: Expr, depth: int) -> bool:
    if is_at_least(value, 0):
        return True
    if depth == 0:
        return False
    return any(_proves_through(value, call, depth - 1) for call in _calls(value))


def _calls(value: Expr) -> Iterator[Call]:
    """Calls that stand in terms of ``value`` as plain factors, each once."""
    seen: dict[Call, None] = {}
    for monomial, _ in value.terms:
        seen.update(dict.fromkeys(a for a in monomial if isinstance(a, Call)))
    yield from seen


def _proves_through(value: Expr, call: Call, depth: int) -> bool:
    """The proof for ``value = factor * call + rest``, by cases of the call."""
    parted = _parted(value, call)
    if parted is None:
        return False
    factor, rest = parted
    rising = is_at_least(factor, 0)
    if not rising and not is_at_least(-factor, 0):
        return False
    if call.fn in ("min", "max"):
        cases = (_proves(rest + factor * a, depth) for a in call.args)
        # A minimum with a negative factor is as good as the best of its arguments.
        return all(cases) if (call.fn == "min") == rising else any(cases)
    x, d = call.args
    if not is_at_least(d, 1):
        return False
    if call.fn == "mod":
        return _proves(rest if rising else rest + factor * (d - 1), depth)
    # (x - d + 1) / d <= x // d <= x / d, times d, which is positive
    return _proves(rest * d + factor * (x - d + 1 if rising else x), depth)


def _parted(value: Expr, call: Call) -> tuple[Expr, Expr] | None:
    """``(factor, rest)``; None for a call that is squared."""
    factor: dict[tuple[object, ...], int] = {}
    rest: dict[tuple[object, ...], int] = {}
    for monomial, c in value.terms:
        count = monomial.count(call)
        if count > 1:
            return None
        if count:
            factor[tuple(a for a in monomial if a != call)] = c
        else:
            rest[monomial] = c
    return Expr(factor), Expr(rest)  # type: ignore[arg-type]

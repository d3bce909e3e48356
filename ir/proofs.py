"""Proofs about expressions that need more than the bounds of their symbols.

``is_bounded_below`` bounds every term by itself. Here a ``min``, ``max``, ``//`` or ``%`` inside of
an expression is replaced by what it is at least (or at most), one after the other, so that
``n - min(s, n) - max(0, min(e, n) - min(s, n)) >= 0``, the end of a clamped slice, is proved.
"""

from collections.abc import Iterator

from tapeout.ir.expr import Call, Expr, ExprLike, as_expr, is_bounded_below

DEPTH = 6
"""Calls replaced in a row; clamped slices take three."""

SHALLOW = 2
"""The same where expressions are made, which is often: ``n // 2 <= n`` takes one."""


def proves_at_least(value: ExprLike, bound: ExprLike) -> bool:
    """Whether ``value >= bound`` is proved for all symbol values; False means unknown."""
    return _proves(as_expr(value) - bound, DEPTH)


def proves_by_cases(value: Expr) -> bool:
    """Whether few steps prove ``value >= 0``: what ``is_at_least`` asks beyond bounds."""
    return _proves(value, SHALLOW)


def _proves(value: Expr, depth: int) -> bool:
    if is_bounded_below(value):
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
    rising = is_bounded_below(factor)
    if not rising and not is_bounded_below(-factor):
        return False
    if call.fn in ("min", "max"):
        cases = (_proves(rest + factor * a, depth) for a in call.args)
        # A minimum with a negative factor is as good as the best of its arguments.
        return all(cases) if (call.fn == "min") == rising else any(cases)
    x, d = call.args
    if not is_bounded_below(d - 1):
        return False
    if call.fn == "mod":
        # 0 <= x % d < d, and x % d <= x where x is not negative
        most = [d - 1, x] if is_bounded_below(x) else [d - 1]
        return any(_proves(rest + factor * m, depth) for m in ([as_expr(0)] if rising else most))
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

"""Expressions: simplification never changes a value, and no claim about ranges is false."""

import operator
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tapeout.ir.expr import (
    Expr,
    Symbol,
    as_expr,
    as_symbol,
    bounds,
    ceildiv,
    is_at_least,
    is_less,
    maximum,
    minimum,
    symbol,
)
from tapeout.ir.expr_text import parse_exprs, parse_ranges, ranges_text

Values = Mapping[str, int]


def floordiv(a: Any, b: Any) -> Any:
    return a // b


def mod(a: Any, b: Any) -> Any:
    return a % b


@dataclass(frozen=True)
class Pair:
    """One formula twice: simplified as it is built, and as plain Python that is not."""

    built: Expr
    plain: Callable[[Values], int]
    text: str


S = symbol("S", 1, 40)
B = symbol("B", 1, 5)
N = symbol("N", 0, None)
P = symbol("P", -7, 9)
ROW = symbol("row", 0, S - 1)
COLUMN = symbol("column", 0, 11)
WITHIN = symbol("within", 0, ROW)
SYMBOLS = [S, B, N, P, ROW, COLUMN, WITHIN]
ATOMS = [a for e in SYMBOLS if (a := as_symbol(e)) is not None]


@st.composite
def assignments(draw: st.DrawFn) -> dict[str, int]:
    """Values of all symbols, each within its range."""
    values: dict[str, int] = {}
    for atom in ATOMS:
        high = atom.hi.evaluate(values) if isinstance(atom.hi, Expr) else atom.hi
        values[atom.name] = draw(st.integers(atom.lo, 50 if high is None else high))
    return values


def leaf_of(name: str, built: Expr) -> Pair:
    return Pair(built, lambda v: v[name], name)


def number_of(value: int) -> Pair:
    return Pair(as_expr(value), lambda v: value, str(value))


LEAVES = st.one_of(
    st.sampled_from([leaf_of(a.name, e) for a, e in zip(ATOMS, SYMBOLS, strict=True)]),
    st.integers(-13, 64).map(number_of),
)
BINARY: dict[str, tuple[Callable[..., Expr], Callable[..., int]]] = {
    "+": (operator.add, operator.add),
    "-": (operator.sub, operator.sub),
    "*": (operator.mul, operator.mul),
    "min": (minimum, min),
    "max": (maximum, max),
}
DIVIDE: dict[str, tuple[Callable[..., Expr], Callable[..., int]]] = {
    "//": (floordiv, floordiv),
    "%": (mod, mod),
}
POSITIVE = [number_of(n) for n in (1, 2, 3, 4, 6, 8, 12, 24)] + [leaf_of("S", S), leaf_of("B", B)]


def joined(name: str, left: Pair, right: Pair) -> Pair:
    build, run = (BINARY | DIVIDE)[name]
    return Pair(
        build(left.built, right.built),
        lambda v: run(left.plain(v), right.plain(v)),
        f"({left.text} {name} {right.text})",
    )


def grown(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    divisors = st.sampled_from([*POSITIVE, number_of(-3)])
    return st.one_of(
        st.builds(joined, st.sampled_from(list(BINARY)), inner, inner),
        st.builds(joined, st.sampled_from(list(DIVIDE)), inner, divisors),
    )


FORMULAS = st.recursive(LEAVES, grown, max_leaves=10)


@settings(max_examples=1500)
@given(FORMULAS, assignments())
def test_simplified_expressions_keep_their_value(formula: Pair, values: Values) -> None:
    assert formula.built.evaluate(values) == formula.plain(values), formula.text


@settings(max_examples=1000)
@given(FORMULAS, assignments())
def test_bounds_contain_every_value(formula: Pair, values: Values) -> None:
    low, high = bounds(formula.built)
    value = formula.plain(values)
    assert low is None or low <= value
    assert high is None or value <= high


@settings(max_examples=1500)
@given(FORMULAS, FORMULAS, assignments())
def test_no_proved_comparison_is_false(left: Pair, right: Pair, values: Values) -> None:
    a, b = left.plain(values), right.plain(values)
    assert not is_less(left.built, right.built) or a < b
    assert not is_at_least(left.built, right.built) or a >= b
    assert left.built != right.built or a == b


@settings(max_examples=800)
@given(FORMULAS, st.dictionaries(st.sampled_from(ATOMS), LEAVES), assignments())
def test_substitution_is_evaluation_with_new_values(
    formula: Pair, replaced: dict[Symbol, Pair], values: Values
) -> None:
    moved = {a.name: p.plain(values) for a, p in replaced.items()}
    # A symbol may only stand for what its range allows: ranges decided how it was simplified.
    assume(all(is_in_range(a, {**values, **moved}) for a in ATOMS))
    result = formula.built.substitute({a: p.built for a, p in replaced.items()})
    assert result.evaluate(values) == formula.plain({**values, **moved})


def is_in_range(atom: Symbol, values: Values) -> bool:
    high = atom.hi.evaluate(values) if isinstance(atom.hi, Expr) else atom.hi
    value = values[atom.name]
    return atom.lo <= value and (high is None or value <= high)


@settings(max_examples=500)
@given(FORMULAS)
def test_text_with_ranges_parses_back_to_the_same_expression(formula: Pair) -> None:
    ranges = ranges_text((formula.built,))
    assert parse_exprs(str(formula.built), parse_ranges(ranges)) == (formula.built,)


@settings(max_examples=300)
@given(FORMULAS, FORMULAS)
@example(number_of(3), number_of(3))
def test_equal_expressions_hash_and_order_alike(left: Pair, right: Pair) -> None:
    total, again = left.built + right.built, right.built + left.built
    assert total == again
    assert hash(total) == hash(again)
    assert str(total) == str(again)


@pytest.mark.parametrize(
    ("simplified", "expected"),
    [
        ((ROW * 12 + COLUMN) // 12, ROW),
        ((ROW * 12 + COLUMN) % 12, COLUMN),
        ((B * S * 384) // (S * 384), B),
        ((S // 4) * 4 + S % 4, S),
        (B * (S % 8) + 8 * B * (S // 8), B * S),
        ((S // 3) // 4, S // 12),
        ((S % 12) % 4, S % 4),
        ((S + 127) // 64, (S + 63) // 64 + 1),
        ((S - 1) // 2 + 1, (S + 1) // 2),
        ((S - 1) % 4, (S + 3) % 4),
        ((S % 12) // 4, (S // 4) % 3),
        (minimum(S, S + 1, 100), S),
        (minimum(N // 2, N), N // 2),
        (minimum(N, N % 4), N % 4),
        (minimum(S, ceildiv(S, 2)), ceildiv(S, 2)),
        (minimum(N // 2 * 2, N), N // 2 * 2),
        (minimum(N // 2 + 1, N + 1), N // 2 + 1),
        (minimum(N // S, N), N // S),
        (maximum(0, N - minimum(N, S)), N - minimum(N, S)),
        (maximum(0, N - N // 3 - N // 3), N - N // 3 - N // 3),
        (maximum(S, minimum(S, N)), S),
        (maximum(S - ROW, 1), S - ROW),
        (ceildiv(S * 16, 16), S),
        ((S + B) * (S - B), S * S - B * B),
    ],
)
def test_known_simplifications_hold(simplified: Expr, expected: Expr) -> None:
    assert simplified == expected


def test_a_loop_index_is_below_its_relative_limit() -> None:
    assert is_less(ROW, S)
    assert is_less(WITHIN, S)
    assert is_less(ROW * 12 + COLUMN, S * 12)
    assert not is_less(ROW + 1, S)


def test_a_constant_expression_hashes_as_its_number() -> None:
    assert {as_expr(7): "seven"}[7] == "seven"  # type: ignore[index]


def test_symbols_of_one_name_and_two_ranges_stay_apart() -> None:
    narrow, wide = symbol("M", 0, 3), symbol("M", 0, 9)
    assert narrow != wide
    assert (narrow - wide) != 0
    assert (narrow * wide + wide) - wide * (narrow + 1) == 0


def test_a_symbol_survives_pickling_as_itself() -> None:
    assert pickle.loads(pickle.dumps(ATOMS[4])) is ATOMS[4]


def test_a_name_that_is_no_identifier_is_refused() -> None:
    with pytest.raises(AssertionError, match="no name"):
        symbol("a*/b")


@pytest.mark.parametrize("text", ["S.x", "S ** 2", "f(S)", "S / 2", "'a'", "1.5", "[S]"])
def test_text_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a dimension expression"):
        parse_exprs(text)


@pytest.mark.parametrize("inner", [floordiv, mod])
@pytest.mark.parametrize("outer", [floordiv, mod])
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("shift", [-2, 0, 5])
def test_nested_divisions_are_exact_for_every_value(
    inner: Callable[..., Expr], outer: Callable[..., Expr], factor: int, shift: int
) -> None:
    x = symbol("x", -17, 30)
    for first in (2, 3, 4, 8):
        for second in (2, 3, 4, 6, 8):
            built = outer(inner(x, first) * factor + shift, second)
            for value in range(-17, 31):
                plain = outer(inner(value, first) * factor + shift, second)
                assert built.evaluate({"x": value}) == plain, (built, value)


@pytest.mark.parametrize("apply", [floordiv, mod, operator.mul, minimum, maximum])
@pytest.mark.parametrize("left", [(-9, -2), (-7, 5), (0, 6), (2, 9)])
@pytest.mark.parametrize("right", [(1, 4), (2, 7)])
def test_bounds_hold_over_whole_ranges(
    apply: Callable[..., Expr], left: tuple[int, int], right: tuple[int, int]
) -> None:
    a, b = symbol("a", *left), symbol("b", *right)
    built = apply(a, b)
    low, high = bounds(built)
    values = [
        built.evaluate({"a": x, "b": y})
        for x in range(left[0], left[1] + 1)
        for y in range(right[0], right[1] + 1)
    ]
    assert low is not None
    assert high is not None
    assert low <= min(values)
    assert max(values) <= high

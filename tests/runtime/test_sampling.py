"""Tokens drawn from logits, and guesses that do not change what is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any, cast

import numpy as np
import pytest

from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.errors import RunError
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import Draft, EarlyExit, Guess, Heads, Lookup, SmallModel, generate

Array = np.ndarray[Any, Any]

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 2.5], np.float32)


def softmax(x: Array) -> Array:
    grown = np.exp(x.astype(np.float64) - x.max())
    return grown / grown.sum()


def test_no_temperature_takes_the_likeliest() -> None:
    assert Sampler().pick(LOGITS) == 1


def test_temperature_divides_the_logits() -> None:
    chances = Sampler(temperature=2.0).probabilities(LOGITS)
    np.testing.assert_allclose(chances, softmax(LOGITS / 2))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {1, 4}),
        ({"top_k": 9}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {1, 4}),
        ({"top_p": 0.45}, {1}),
        ({"min_p": 0.3}, {1, 2, 4}),
        ({"min_p": 1.0}, {1}),
        ({"top_k": 3, "top_p": 0.6}, {1, 4}),
    ],
)
def test_options_keep_the_likeliest(options: dict[str, float], kept: set[int]) -> None:
    chances = Sampler(temperature=1.0, **cast(Any, options)).probabilities(LOGITS)
    assert set(np.flatnonzero(chances).tolist()) == kept
    expected = np.where(np.isin(np.arange(5), list(kept)), softmax(LOGITS), 0)
    np.testing.assert_allclose(chances, expected / expected.sum())


def test_repetition_is_punished_whatever_the_sign() -> None:
    chances = Sampler(temperature=1.0, repetition_penalty=2.0).probabilities(LOGITS, [1, 3, 1])
    np.testing.assert_allclose(chances, softmax(np.array([1.0, 1.5, 2.0, -2.0, 2.5])))


def test_equal_seeds_draw_equal_tokens() -> None:
    one, other = Sampler(temperature=1.0, seed=5), Sampler(temperature=1.0, seed=5)
    assert [one.pick(LOGITS) for _ in range(50)] == [other.pick(LOGITS) for _ in range(50)]


def test_tokens_come_as_often_as_they_are_likely() -> None:
    sampler = Sampler(temperature=1.0, seed=1)
    check(Counter(sampler.pick(LOGITS) for _ in range(20_000)), softmax(LOGITS))


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"min_p": 2}, {"repetition_penalty": 0}],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(RunError, match="E0522"):
        Sampler(**cast(Any, options))


def check(found: Counter[int], chances: Array) -> None:
    """Chi-square against a distribution; far beyond what one in a million draws gives is wrong."""
    total = found.total()
    expected = chances * total
    assert set(found) <= set(np.flatnonzero(chances).tolist())
    kept = expected > 0
    have = np.array([found[i] for i in range(len(chances))])
    statistic = (((have - expected) ** 2)[kept] / expected[kept]).sum()
    degrees = kept.sum() - 1
    assert statistic < degrees + 6 * np.sqrt(2 * degrees) + 12


class Chain:
    """A session whose logits depend on the last token alone: fast, and its chances are known."""

    max_length = 10_000

    def __init__(self, table: Array) -> None:
        self.table, self.text, self.tree = table, list[int](), list[int]()
        # What the first layers say is near to what all say.
        noise = np.random.default_rng(5).standard_normal((len(table), len(table)))
        self.first: Array = table + noise.astype(np.float32)

    @property
    def lengths(self) -> tuple[int]:
        return (len(self.text),)

    def prefill(self, tokens: Sequence[int]) -> Array:
        self.text += [int(t) for t in tokens]
        return self.table[self.text[-1]][None]

    def decode(self, tokens: Sequence[int], exit: int | None = None) -> Array:
        if exit is not None:
            return self.first[tokens[0]][None]
        return self.prefill(tokens)

    def verify(
        self, tokens: Sequence[Sequence[int]], parents: Sequence[Sequence[int]] | None = None
    ) -> list[Array]:
        if parents is None:
            return [np.concatenate([self.prefill([t]) for t in tokens[0]])]
        self.tree = list(tokens[0])
        return [self.table[self.tree]]

    def keep(self, paths: Sequence[Sequence[int]]) -> None:
        self.text += [self.tree[i] for i in paths[0]]

    def truncate(self, length: int) -> None:
        assert 0 <= length <= len(self.text)
        del self.text[length:]

    def rollback(self, count: int) -> None:
        self.truncate(len(self.text) - count)


def chain(seed: int, size: int = 6) -> DecodingSession:
    table = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    return cast(DecodingSession, Chain(table * 1.5))


class Wrong:
    """Guesses one token for ever, certain of it."""

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        return [Guess(2, np.eye(6)[2], i - 1) for i in range(count)]


class Certain:
    """Three tokens behind each token, certain of all of them."""

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        return [Guess(t, np.eye(6)[t], i // 3 - 1) for i, t in zip(range(count), (3, 1, 4) * 9)]


class Branches:
    """Two or three tokens behind each token, drawn from what another chain says.

    Each by itself, so that two may be the same; or such that later ones are others.
    """

    def __init__(self, sampler: Sampler, others: bool) -> None:
        self.table, self.sampler, self.others = cast(Chain, chain(3)).table, sampler, others

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        found = list[Guess]()
        for i in range(count):
            parent = i // (3 if self.others else 2) - 1
            chances = self.sampler.probabilities(
                self.table[found[parent].token if parent >= 0 else tokens[-1]]
            )
            if self.others:
                chances[[guess.token for guess in found if guess.parent == parent]] = 0
                chances /= chances.sum()
            found.append(Guess(self.sampler.draw(chances), chances, parent))
        return found


def drafts(options: dict[str, float], session: DecodingSession) -> list[Draft]:
    small = Sampler(seed=7, **cast(Any, options))
    drawing = Sampler(temperature=1.0, seed=7)
    lines = [Lookup(6), Wrong(), SmallModel(chain(3), small), SmallModel(chain(0), small)]
    trees = [Certain(), Branches(drawing, others=False), Branches(drawing, others=True)]
    return [*lines, *trees, EarlyExit(session, small, 1)]


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("ahead", [1, 4, 12])
def test_greedy_guesses_change_no_token(which: int, ahead: int) -> None:
    plain = list(islice(generate(chain(0), [1, 2], Sampler()), 200))
    session = chain(0)
    made = generate(session, [1, 2], Sampler(), drafts({}, session)[which], ahead)
    assert list(islice(made, 200)) == plain


@pytest.mark.parametrize(
    ("which", "ahead"), [*((i, 4) for i in (0, 1, 2, 3, 7)), (4, 12), (5, 6), (6, 12)]
)
def test_drawn_guesses_keep_the_distribution(which: int, ahead: int) -> None:
    options = {"temperature": 1.0, "top_k": 4}
    session, sampler = chain(0), Sampler(seed=11, **cast(Any, options))
    made = generate(session, [1], sampler, drafts(options, session)[which], ahead)
    text = [1, *islice(made, 10_000 if which else 5_000)]
    table = cast(Chain, session).table
    for before in range(6):
        behind = Counter(b for a, b in pairwise(text) if a == before)
        if behind.total() > 200:
            check(behind, Sampler(**cast(Any, options)).probabilities(table[before]))


class Said:
    """A session whose heads have said something."""

    def __init__(self, heads: Array, trees: bool) -> None:
        self.heads, self.trees = heads, trees

    def beside(self, output: str) -> Array:
        assert output == "medusa"
        return self.heads[None]


def test_heads_guess_the_likeliest_beginnings() -> None:
    heads = np.log([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1]])

    def found(count: int, trees: bool) -> list[tuple[int, int]]:
        guesses = Heads(cast(DecodingSession, Said(heads, trees))).guess([7], count)
        assert all(
            guess.probabilities.tolist() == np.eye(3)[guess.token].tolist() for guess in guesses
        )
        return [(guess.token, guess.parent) for guess in guesses]

    # As likely as 0.5, 0.4, 0.5 * 0.6, 0.4 * 0.6, 0.5 * 0.3, 0.4 * 0.3, 0.1.
    tree = [(0, -1), (2, -1), (1, 0), (1, 1), (0, 0), (0, 1), (1, -1)]
    assert found(7, trees=True) == tree
    assert found(2, trees=True) == tree[:2]
    assert len(found(100, trees=True)) == 3 + 9
    assert found(100, trees=False) == [(0, -1), (1, 0)]
    assert found(1, trees=False) == [(0, -1)]


def test_lookup_finds_the_longest_ending() -> None:
    guesses = Lookup(100).guess([5, 6, 7, 8, 1, 6, 7, 9, 5, 6, 7], 2)
    assert [g.token for g in guesses] == [8, 1]
    assert Lookup(100).guess([1, 2, 3], 4) == []

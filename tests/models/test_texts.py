"""The real texts: nothing trained on is judged on, and pairs are what they are said to be."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function from a file of ``zoo`` to its module."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    return lambda name: importlib.import_module(f"zoo.{name}")


def test_the_held_out_text_is_new(texts: Callable[[str], Any]) -> None:
    train, held_out = texts("corpus").split_text()
    assert len(train) > 200_000
    assert 0.08 < len(held_out) / len(train + held_out) < 0.12
    pieces = [held_out[i : i + 64] for i in range(0, len(held_out) - 64, 64)]
    # Set phrases occur again, such as those that tell what changed in which version.
    assert np.mean([piece in train for piece in pieces]) < 0.03


def test_counting_cannot_compress_noise_but_knows_a_refrain(texts: Callable[[str], Any]) -> None:
    ngram_bits = texts("ngram").ngram_bits
    noise = np.random.default_rng(0).integers(0, 256, 40_000).astype(np.uint8).tobytes()
    assert ngram_bits(noise[:30_000], noise[30_000:]) > 8.0
    # Half of the bytes are "a", after which "a" and "b" are as likely: 1 bit. Two bytes tell.
    refrain, more = b"xaab" * 500, b"xaab" * 50
    assert ngram_bits(refrain, more, order=1) == pytest.approx(0.5, abs=0.02)
    assert ngram_bits(refrain, more, order=2) < 0.02


def test_counts_from_shorter_contexts_are_mixed_as_witten_and_bell_say(
    texts: Callable[[str], Any],
) -> None:
    # In "abab", "a" occurs twice and is followed by one kind of byte twice; both bytes are seen.
    lone = (2 + 2 / 256) / (4 + 2)
    after_a = (2 + 1 * lone) / (2 + 1)
    assert texts("ngram").ngram_bits(b"abab", b"ab", order=1) == pytest.approx(-np.log2(after_a))


def test_pairs_are_distinct_and_of_their_kind(texts: Callable[[str], Any]) -> None:
    drawn = texts("pairs").pairs()
    assert len(drawn.kind) >= 300
    assert len({(int(a), int(b)) for a, b in zip(drawn.left, drawn.right, strict=True)}) == len(
        drawn.kind
    )
    assert len(set(drawn.texts)) == len(drawn.texts)
    home = {s.text: s for s in texts("pairs").prose()}
    left, right = ([home[drawn.texts[i]] for i in side] for side in (drawn.left, drawn.right))
    found = [
        0 if a.paragraph == b.paragraph else 1 if a.topic == b.topic else 2
        for a, b in zip(left, right, strict=True)
    ]
    assert found == list(drawn.kind)


def test_calibration_sentences_are_in_no_pair(texts: Callable[[str], Any]) -> None:
    drawn = texts("pairs").pairs()
    assert len(set(drawn.calibration)) == 64
    assert not set(drawn.calibration) & set(drawn.texts)


def test_pairs_are_the_same_every_time(texts: Callable[[str], Any]) -> None:
    pairs = texts("pairs")
    first = pairs.pairs()
    pairs.pairs.cache_clear()
    again = pairs.pairs()
    assert first is not again
    assert first.texts == again.texts
    np.testing.assert_array_equal(first.left, again.left)
    np.testing.assert_array_equal(first.right, again.right)


@pytest.mark.models
def test_the_closer_two_sentences_stand_the_more_alike_they_are(
    zoo: Callable[[str], Any],
) -> None:
    stored = zoo("minilm").arrays("pairs")
    embeddings = stored["embeddings"]
    cosines = (embeddings[stored["left"]] * embeddings[stored["right"]]).sum(1)
    neighbours, one_topic, unrelated = (cosines[stored["kind"] == k].mean() for k in range(3))
    assert neighbours > one_topic + 0.1
    assert one_topic > unrelated + 0.05
    assert cosines.std() > 0.1

"""Pairs of real sentences, of varied likeness, from Python's own documentation.

A third of them stand next to each other in a paragraph, a third come from two paragraphs of one
topic, a third from different topics.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import corpus

SOURCES = (*corpus.SOURCES, Path(__file__))

KINDS = ("neighbours", "one topic", "unrelated")
PAIRS_PER_KIND = 120
CALIBRATION_SENTENCES = 64
SEED = 5

WORDS_MIN, WORDS_MAX = 6, 40
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
NOT_PROSE = re.compile(r"[<>=|{}\[\]]|\.\.\.|::")
"""Grammar rules and code: MiniLM has never seen such text."""

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


class Sentence(NamedTuple):
    """A sentence, its topic, and the number of its paragraph."""

    topic: str
    paragraph: int
    text: str


class Pairs(NamedTuple):
    """``texts`` are distinct, shortest first; pair ``i`` is ``texts[left[i]], texts[right[i]]``.

    ``kind`` are indices into :data:`KINDS`; ``calibration`` are sentences that are in no pair.
    """

    texts: list[str]
    left: Indices
    right: Indices
    kind: Indices
    calibration: list[str]


@cache
def prose() -> Sequence[Sentence]:
    """Return the documentation's sentences in their order, each once."""
    found: dict[str, Sentence] = {}
    for number, (topic, paragraph) in enumerate(corpus.paragraphs()):
        for text in SENTENCE_END.split(" ".join(paragraph.split())):
            if _is_prose(text):
                found.setdefault(text, Sentence(topic, number, text))
    return list(found.values())


def _is_prose(text: str) -> bool:
    whole = text[:1].isupper() and text.endswith((".", "!", "?"))
    return whole and WORDS_MIN <= text.count(" ") + 1 <= WORDS_MAX and not NOT_PROSE.search(text)


@cache
def pairs() -> Pairs:
    """Draw the pairs and the calibration sentences, always the same."""
    sentences = prose()
    generator = np.random.default_rng(SEED)
    drawn = [generator.choice(c, PAIRS_PER_KIND, replace=False) for c in _candidates(sentences)]
    chosen = np.concatenate(drawn)
    used = sorted(set(map(int, chosen.flat)), key=lambda i: len(sentences[i].text))
    place = {index: at for at, index in enumerate(used)}
    unused = [s.text for i, s in enumerate(sentences) if i not in place]
    return Pairs(
        texts=[sentences[i].text for i in used],
        left=np.array([place[i] for i in chosen[:, 0]]),
        right=np.array([place[i] for i in chosen[:, 1]]),
        kind=np.repeat(np.arange(len(KINDS)), PAIRS_PER_KIND),
        calibration=[
            str(s) for s in generator.choice(unused, CALIBRATION_SENTENCES, replace=False)
        ],
    )


def _candidates(sentences: Sequence[Sentence]) -> list[np.ndarray]:
    """Return all pairs ``[N, 2]`` of each kind, in the order of :data:`KINDS`."""
    paragraph = np.array([s.paragraph for s in sentences])
    topic = np.unique([s.topic for s in sentences], return_inverse=True)[1]
    i, j = np.triu_indices(len(sentences), k=1)
    together, related = paragraph[i] == paragraph[j], topic[i] == topic[j]
    kinds = (together & (j == i + 1), related & ~together, ~related)
    return [np.stack([i[kind], j[kind]], axis=1) for kind in kinds]

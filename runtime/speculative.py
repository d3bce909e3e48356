"""Several tokens a step: guessed cheaply, verified by the model at once, kept where it agrees.

What comes out is what plain decoding would give: the very same tokens where it is greedy, and the
same distribution where tokens are drawn. Source: Leviathan et al. 2023, arXiv:2211.17192; for
guesses from the text itself, Saxena 2023, "Prompt lookup decoding".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.tensors import Array


@dataclass(frozen=True)
class Guess:
    """A token that may come next, and the distribution that it was drawn from."""

    token: int
    probabilities: Array


class Draft(Protocol):
    """Where guesses come from."""

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """Up to ``count`` tokens that may follow ``tokens``."""
        ...


@dataclass
class Lookup:
    """Guesses what followed the last time that the text had its last ``size`` tokens."""

    vocabulary: int
    size: int = 3

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """The tokens behind the latest earlier occurrence, of the longest ending that has one."""
        for size in range(min(self.size, len(tokens) - 1), 0, -1):
            ending = list(tokens[-size:])
            for at in range(len(tokens) - size - 1, -1, -1):
                if list(tokens[at : at + size]) == ending:
                    found = tokens[at + size : at + size + count]
                    return [Guess(t, _certain(t, self.vocabulary)) for t in found]
        return []


@dataclass
class Heads:
    """Guesses by heads of the model itself, which its program computes beside the logits.

    Each says one token further ahead, from the hidden state of the token before the first guess.
    Source: Cai et al. 2024, arXiv:2401.10774; its heads in a line, without its trees.
    """

    session: DecodingSession
    sampler: Sampler

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """What the heads said of the last token that the cache has."""
        text, found = list(tokens), list[Guess]()
        for logits in self.session.beside("medusa")[0][:count]:
            chances = self.sampler.probabilities(logits, text)
            found.append(Guess(self.sampler.draw(chances), chances))
            text.append(found[-1].token)
        return found


@dataclass
class SmallModel:
    """Guesses by a smaller model of the same vocabulary, whose cache follows the text."""

    session: DecodingSession
    sampler: Sampler
    _held: tuple[int, ...] = ()

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """Tokens drawn one after the other."""
        shared = 0
        while (
            shared < min(len(self._held), len(tokens) - 1) and self._held[shared] == tokens[shared]
        ):
            shared += 1
        self.session.truncate(shared)
        logits = self.session.prefill(list(tokens[shared:]))[0]
        text, found = list(tokens), list[Guess]()
        while len(found) < count:
            chances = self.sampler.probabilities(logits, text)
            found.append(Guess(self.sampler.draw(chances), chances))
            text.append(found[-1].token)
            if len(found) < count:
                logits = self.session.decode([text[-1]])[0]
        self._held = tuple(text[: self.session.lengths[0]])
        return found


def generate(
    session: DecodingSession,
    prompt: Sequence[int],
    sampler: Sampler,
    draft: Draft | None = None,
    ahead: int = 4,
) -> Iterator[int]:
    """Tokens after a prompt, without end; ``session`` has one sequence, empty or what went before.

    With a ``draft``, up to ``ahead`` guesses are verified in each step.
    """
    text = list(prompt)
    logits = session.prefill(text)[0]
    chances = sampler.probabilities(logits, text)
    while True:
        # This token is in the text, and not yet in the cache.
        token = sampler.draw(chances)
        yield token
        text.append(token)
        room = session.max_length - session.lengths[0] - 1
        guesses = draft.guess(text, min(ahead, room)) if draft is not None and room > 0 else []
        # Without guesses nothing is taken back, so a recurrent layer need not be copied.
        tokens = [token, *(g.token for g in guesses)]
        found = session.verify([tokens])[0] if guesses else session.decode(tokens)
        kept = 0
        chances = sampler.probabilities(found[0], text)
        while kept < len(guesses) and _accepted(guesses[kept], chances, sampler):
            yield guesses[kept].token
            text.append(guesses[kept].token)
            kept += 1
            chances = sampler.probabilities(found[kept], text)
        if kept < len(guesses):
            session.rollback(len(guesses) - kept)
            # What is drawn in place of a refused guess makes up for what guesses take too often.
            left = np.maximum(chances - guesses[kept].probabilities, 0)
            chances = left / left.sum()


def _accepted(guess: Guess, chances: Array, sampler: Sampler) -> bool:
    """Whether to keep a guess: by how likely the model has it, over how likely the draft had."""
    ratio = chances[guess.token] / guess.probabilities[guess.token]
    return ratio >= 1 or (ratio > 0 and sampler.random.random() < ratio)


def _certain(token: int, size: int) -> Array:
    chances = np.zeros(size)
    chances[token] = 1
    return chances

"""Several tokens a step: guessed cheaply, verified by the model at once, kept where it agrees.

Guesses are a line, or a tree: several candidates for a place, each with what may follow it. What
comes out is what plain decoding would give: the very same tokens where it is greedy (of a tree, but
for logits that are equal within rounding), and the same distribution where tokens are drawn.
Source: Leviathan et al. 2023, arXiv:2211.17192; for trees, Miao et al. 2023, arXiv:2305.09781; for
guesses from the text itself, Saxena 2023, "Prompt lookup decoding".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

import numpy as np

from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.tensors import Array
from tapeout.runtime.trees import TREE


@dataclass(frozen=True)
class Guess:
    """A token that may come next, and what it was drawn from, given the guesses before it.

    ``parent``: the number of the guess that it follows; -1 where that is the text's last token.
    """

    token: int
    probabilities: Array
    parent: int


class Draft(Protocol):
    """Where guesses come from."""

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """Up to ``count`` tokens that may follow ``tokens``, parents before their children."""
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
                    return [
                        Guess(t, _certain(t, self.vocabulary), i - 1) for i, t in enumerate(found)
                    ]
        return []


@dataclass
class Heads:
    """Guesses by heads of the model itself, which its program computes beside the logits.

    Each says one token further ahead, from the hidden state of the token before the first guess, so
    what one says of a place does not depend on what another says of the place before.
    Source: Cai et al. 2024, arXiv:2401.10774.
    """

    session: DecodingSession

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """The ``count`` likeliest beginnings of what follows; where trees cannot be, one line.

        A beginning is as likely as the product of what the heads say of its tokens. From the
        likeliest on, each next one is the child or the next sibling of one that was taken.
        """
        logits = self.session.beside("medusa")[0].astype(np.float64)
        heads = logits - logits.max(axis=1, keepdims=True)
        heads -= np.log(np.exp(heads).sum(axis=1, keepdims=True))
        many = self.session.trees
        order = np.argsort(-heads, axis=1, kind="stable")[:, : count if many else 1]
        found, depths = list[Guess](), {-1: -1}
        # What it costs, as a sum of -log; the rank of the token in its head; its parent, its cost.
        open_ = [(-heads[0, order[0, 0]], 0, -1, 0.0)]
        while open_ and len(found) < min(count, TREE - 1):
            cost, rank, parent, before = heappop(open_)
            depth = depths[parent] + 1
            token = int(order[depth, rank])
            me, depths[len(found)] = len(found), depth
            found.append(Guess(token, _certain(token, heads.shape[1]), parent))
            if rank + 1 < order.shape[1]:
                sibling = before - heads[depth, order[depth, rank + 1]]
                heappush(open_, (sibling, rank + 1, parent, before))
            if depth + 1 < len(heads):
                heappush(open_, (cost - heads[depth + 1, order[depth + 1, 0]], 0, me, cost))
        return found


@dataclass
class EarlyExit:
    """Guesses by the first layers of the model itself, in its own session: self-speculation.

    Verifying runs all layers of the guesses anew, so that nothing of them stays. Source: Elhoushi
    et al. 2024, arXiv:2404.16710.
    """

    session: DecodingSession
    sampler: Sampler
    exit: int

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """Tokens drawn one after the other, each after ``exit`` layers."""
        self.session.rollback(0)
        text, found = list(tokens), list[Guess]()
        while len(found) < count:
            logits = self.session.decode([text[-1]], exit=self.exit)[0]
            chances = self.sampler.probabilities(logits, text)
            found.append(Guess(self.sampler.draw(chances), chances, len(found) - 1))
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
            found.append(Guess(self.sampler.draw(chances), chances, len(found) - 1))
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

    With a ``draft``, up to ``ahead`` guesses are verified in each step. Behind a token its guesses
    are tried in turn: each stays by how likely it is over how likely the draft had it, and what a
    refused one takes too often is taken out of the distribution that the next one is judged by.
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
        tokens = [token, *(g.token for g in guesses)]
        parents = [-1, *(g.parent + 1 for g in guesses)]
        line = parents == list(range(-1, len(guesses)))
        # Without guesses nothing is taken back, so a recurrent layer need not be copied.
        if not guesses:
            found = session.decode(tokens)
        else:
            found = session.verify([tokens], None if line else [parents])[0]
        path = [0]
        chances = sampler.probabilities(found[0], text)
        for i, guess in enumerate(guesses, 1):
            if parents[i] != path[-1]:
                continue
            ratio = chances[guess.token] / guess.probabilities[guess.token]
            if ratio >= 1 or (ratio > 0 and sampler.random.random() < ratio):
                yield guess.token
                text.append(guess.token)
                path.append(i)
                chances = sampler.probabilities(found[i], text)
            else:
                # What is drawn instead makes up for what guesses take too often.
                left = np.maximum(chances - guess.probabilities, 0)
                chances = left / left.sum()
        if not line:
            session.keep([path])
        elif len(path) <= len(guesses):
            session.rollback(len(guesses) + 1 - len(path))


def _certain(token: int, size: int) -> Array:
    chances = np.zeros(size)
    chances[token] = 1
    return chances

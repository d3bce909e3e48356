"""From logits to tokens: greedy, or drawn from a distribution that options narrow down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tapeout.runtime.errors import RunError
from tapeout.runtime.tensors import Array


@dataclass
class Sampler:
    """How tokens are chosen; the defaults take the likeliest.

    ``temperature`` divides the logits, 0 is greedy. Then, of the tokens in falling order of
    probability, ``top_k`` are kept (0: all), as many as together have ``top_p``, and those with at
    least ``min_p`` times the probability of the first. ``repetition_penalty`` r divides positive
    logits of tokens that occurred before by r, and multiplies negative ones (Keskar et al. 2019,
    arXiv:1909.05858). Equal seeds give equal tokens. Errors: E0522.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    random: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check options."""
        good = {
            "temperature": 0 <= self.temperature < np.inf,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty < np.inf,
        }
        bad = [name for name, holds in good.items() if not holds]
        if bad:
            facts = [(name, getattr(self, name)) for name in bad]
            raise RunError("E0522", "an option of sampling is out of range", facts)
        self.random = np.random.default_rng(self.seed)

    def probabilities(self, logits: Array, before: Sequence[int] = ()) -> Array:
        """The distribution ``[V]`` (f64) that a token is drawn from; one 1 where greedy."""
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1 and len(before):
            seen = np.unique(np.asarray(before))
            penalty = np.where(scores[seen] > 0, 1 / self.repetition_penalty, 1.0)
            penalty = np.where(scores[seen] < 0, self.repetition_penalty, penalty)
            scores[seen] *= penalty
        if self.temperature == 0:
            chosen = np.zeros_like(scores)
            chosen[scores.argmax()] = 1
            return chosen
        grown = np.exp((scores - scores.max()) / self.temperature)
        grown /= grown.sum()
        order = np.argsort(-grown, kind="stable")
        falling = grown[order]
        kept = falling >= self.min_p * falling[0]
        if self.top_k:
            kept[self.top_k :] = False
        if self.top_p < 1:
            # The token that reaches the sum is still kept.
            kept &= np.cumsum(falling) - falling < self.top_p
        grown[order[~kept]] = 0
        return grown / grown.sum()

    def draw(self, probabilities: Array) -> int:
        """A token of a distribution; no random number is used up where there is one choice."""
        if probabilities.max() == 1:
            return int(probabilities.argmax())
        return int(np.searchsorted(np.cumsum(probabilities), self.random.random(), side="right"))

    def pick(self, logits: Array, before: Sequence[int] = ()) -> int:
        """The next token after logits ``[V]``; ``before`` are those that occurred."""
        return self.draw(self.probabilities(logits, before))

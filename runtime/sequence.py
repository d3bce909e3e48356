"""One sequence of a session: the pages that it holds, and how many tokens are in them."""

from __future__ import annotations

import sys

ALL = sys.maxsize
"""The depth of a run that no exit ends: more layers than there are."""


class CachedSequence:
    """Pages and number of tokens of one sequence.

    ``early``: behind these the provisional tokens, each with the layers that it went through; none
    went through more than one before it.
    """

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.length = 0
        self.early: list[int] = []

    @property
    def end(self) -> int:
        """How many tokens there are, provisional ones too."""
        return self.length + len(self.early)

    def seen(self, depth: int) -> int:
        """How many tokens came as far as to a depth."""
        return self.length + sum(each >= depth for each in self.early)

    def add(self, count: int, depth: int) -> None:
        """Have more tokens, which a run to a depth took."""
        if depth == ALL:
            self.length += count
        else:
            self.early += [depth] * count

    def copy(self) -> CachedSequence:
        """Another one with the same pages and tokens."""
        made = CachedSequence()
        made.pages, made.length, made.early = list(self.pages), self.length, list(self.early)
        return made

"""Trees of guesses: tokens that each follow another one, of which a path from a root may stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapeout.runtime.errors import RunError

TREE = 64
"""Tokens of a tree at most: each has a word with a bit for every one of them."""


class Tree:
    """Where the tokens of a tree hang: ``depths [n]``, and ``words [n]`` of ancestors and self."""

    def __init__(self, parents: Sequence[int]) -> None:
        """``parents``: an earlier token for each, -1 behind the text. E0525 for another thing."""
        self.parents = list(parents)
        if len(self.parents) > TREE:
            facts = (("tokens", len(self.parents)), ("most", TREE))
            raise RunError("E0525", "a tree has too many tokens", facts, "guess fewer")
        self.depths = np.zeros(len(self.parents), np.int64)
        words = np.zeros(len(self.parents), np.uint64)
        for i, parent in enumerate(self.parents):
            if not -1 <= parent < i:
                raise RunError(
                    "E0525",
                    "a token's parent does not stand before it",
                    (("token", i), ("parent", parent)),
                    "give the number of an earlier token of the tree, or -1",
                )
            words[i] = np.uint64(1 << i)
            if parent >= 0:
                words[i] |= words[parent]
                self.depths[i] = self.depths[parent] + 1
        self.words = words.view(np.int64)

    def check(self, path: Sequence[int]) -> None:
        """E0525 unless the path goes from a root from parent to child."""
        before = -1
        for token in path:
            if not 0 <= token < len(self.parents) or self.parents[token] != before:
                raise RunError(
                    "E0525",
                    "what is to be kept is no path of the tree",
                    (("path", list(path)), ("token", token), ("behind", before)),
                    "begin at a root, and give a child of each token behind it",
                )
            before = token

"""Decision trees as one table of equal nodes, whatever comparisons they were written with.

Every node asks ``x[feature] <= split``; leaves lead to themselves. The other comparisons become
one or two such nodes, because ``x < v`` is ``x <= u`` for the number ``u`` just below ``v``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.value import Array

DEEPEST = 256
MODES = (
    *("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"),
    *("BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"),
)


@dataclass
class TreeTable:
    """Nodes by index: where to go for ``<=``, otherwise, and for NaN."""

    dtype: np.dtype[Any]
    feature: list[int] = field(default_factory=list[int])
    split: list[Any] = field(default_factory=list[Any])
    below: list[int] = field(default_factory=list[int])
    above: list[int] = field(default_factory=list[int])
    missing: list[int] = field(default_factory=list[int])

    def reserve(self, count: int) -> None:
        """Make ``count`` leaves."""
        start = len(self.feature)
        for index in range(start, start + count):
            self._append(0, np.inf, index, index, index)

    def branch(
        self,
        index: int,
        mode: str,
        feature: int,
        values: Sequence[float],
        yes: int,
        no: int,
        missing: int,
    ) -> None:
        """Make node ``index`` go to ``yes`` when the comparison holds, else to ``no``."""
        if mode in ("BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"):
            ends = (no, yes) if mode == "BRANCH_NEQ" else (yes, no)
            self._member(index, feature, values, *ends)
        else:
            at = self.dtype.type(values[0])
            split = at if mode in ("BRANCH_LEQ", "BRANCH_GT") else self._just_below(at)
            ends = (yes, no) if mode in ("BRANCH_LEQ", "BRANCH_LT") else (no, yes)
            self._set(index, feature, split, *ends)
        self.missing[index] = missing

    def _member(self, index: int, feature: int, values: Sequence[float], yes: int, no: int) -> None:
        """A chain that asks for each value whether ``x`` is at most it, and not below it."""
        if not values:
            self._set(index, feature, np.inf, no, no)
        for i, value in enumerate(values):
            at = self.dtype.type(value)
            rest = no if i == len(values) - 1 else self._append(0, np.inf, no, no, no)
            exact = self._append(feature, self._just_below(at), rest, yes, no)
            self._set(index, feature, at, exact, rest)
            index = rest

    def _just_below(self, value: Any) -> Any:
        return np.nextafter(value, self.dtype.type(-np.inf))

    def _append(self, feature: int, split: Any, below: int, above: int, missing: int) -> int:
        self.feature.append(feature)
        self.split.append(split)
        self.below.append(below)
        self.above.append(above)
        self.missing.append(missing)
        return len(self.feature) - 1

    def _set(self, index: int, feature: int, split: Any, below: int, above: int) -> None:
        self.feature[index], self.split[index] = feature, split
        self.below[index], self.above[index] = below, above

    @property
    def asks_for_nan(self) -> bool:
        """Whether NaN goes elsewhere than the comparison, which is false for it, sends it."""
        return self.missing != self.above

    def depth(self, node: Call, roots: Sequence[int]) -> int:
        """Comparisons on the longest way to a leaf; E0310 for a cycle or a node out of range."""
        children = np.array([self.below, self.above, self.missing])
        features = np.array(self.feature)
        if children.size and (children.min() < 0 or children.max() >= children.shape[1]):
            node.invalid("a branch leads to a node that does not exist")
        if not roots or min(roots) < 0 or max(roots) >= children.shape[1] or features.min() < 0:
            node.invalid("a root or feature is out of range", ("roots", len(roots)))
        reached = np.unique(np.array(roots))
        for depth in range(DEEPEST + 1):
            reached = np.unique(children[:, reached[~self._leaves()[reached]]])
            if not reached.size:
                return depth
        node.invalid("the trees are too deep, or a branch leads back", ("deepest allowed", DEEPEST))

    def _leaves(self) -> Array:
        own = np.arange(len(self.feature))
        return (np.array(self.below) == own) & (np.array(self.above) == own)

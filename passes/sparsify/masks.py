"""Which weights stay: those of largest magnitude, or of largest effect on the output.

A mask is ``[N, K]``, true for what stays. Weights are compared within an N:M group, and
otherwise over the whole matrix by magnitude, but row by row (stripe by stripe for blocks) by
saliency: Wanda (arXiv:2306.11695) found that outputs are best compared with themselves alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeout.passes.quantize.checks import finite_matrix
from tapeout.passes.sparsify.patterns import NM, Blocks, Sparsity

Array = np.ndarray[Any, Any]


def mask(
    weight: Array,
    sparsity: Sparsity,
    *,
    mean_square: Array | None = None,
    name: str = "weight",
) -> Array:
    """The mask of ``weight [N, K]`` (output, input) that ``sparsity`` asks for.

    ``mean_square [K]`` of the inputs is needed for saliency, ``|w| * sqrt(mean_square)``.
    Errors: E0701 for NaN and infinities.
    """
    scores = np.abs(finite_matrix(weight, name), dtype=np.float64)
    if sparsity.by == "saliency":
        assert mean_square is not None, "saliency is judged by the inputs"
        assert mean_square.shape == weight.shape[1:], f"{mean_square.shape} for {weight.shape}"
        scores *= np.sqrt(mean_square.astype(np.float64))
    match sparsity.pattern:
        case NM(n, m):
            return n_of_m(scores, n, m)
        case Blocks(rows):
            return blocks(scores, sparsity.zeros, rows, by_stripe=sparsity.by == "saliency")
        case _:
            return unstructured(scores, sparsity.zeros, by_row=sparsity.by == "saliency")


def n_of_m(scores: Array, n: int, m: int) -> Array:
    """The ``n`` highest of every ``m`` along K; the first of equals; a ragged group keeps n too."""
    rows, k = scores.shape
    padded = np.pad(scores, ((0, 0), (0, -k % m)), constant_values=-1.0)
    groups = padded.reshape(rows, padded.shape[1] // m, m)
    best = np.argsort(-groups, axis=-1, kind="stable")[..., :n]
    kept = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(kept, best, True, axis=-1)
    return kept.reshape(padded.shape)[:, :k]


def blocks(scores: Array, zeros: float, rows: int = 4, by_stripe: bool = False) -> Array:
    """Blocks of ``rows`` outputs by one input, but for the part ``zeros`` of least norm.

    A ragged last stripe is judged by the rows that it has: what is lost with them is what counts.
    """
    n = len(scores)
    squares = np.pad(np.square(_normal(scores)), ((0, -n % rows), (0, 0)))
    norms = squares.reshape(len(squares) // rows, rows, scores.shape[1]).sum(axis=1)
    kept = _highest(norms, zeros) if by_stripe else _highest(norms.reshape(1, -1), zeros)
    return np.repeat(kept.reshape(norms.shape), rows, axis=0)[:n]


def unstructured(scores: Array, zeros: float, by_row: bool = False) -> Array:
    """All weights but for the part ``zeros`` of lowest score, of the matrix or of each row."""
    kept = _highest(scores, zeros) if by_row else _highest(scores.reshape(1, -1), zeros)
    return kept.reshape(scores.shape)


def _normal(scores: Array) -> Array:
    """Scores with 1 as the highest, so that squares neither overflow nor vanish."""
    top = scores.max(initial=0.0)
    return scores / top if top > 0 else scores


def _highest(scores: Array, zeros: float) -> Array:
    """For each row, all but the ``round(zeros * length)`` lowest; the first of equals stay."""
    length = scores.shape[1]
    best = np.argsort(-scores, axis=1, kind="stable")[:, : length - round(zeros * length)]
    kept = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(kept, best, True, axis=1)
    return kept

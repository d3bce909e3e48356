"""What is measured on real data: accuracy, rank correlation, perplexity."""

import numpy as np

Array = np.ndarray


def accuracy_percent(logits: Array, labels: Array) -> float:
    """Return how many of the ``[N, classes]`` logits have their largest at the label, in %."""
    return 100.0 * float((logits.argmax(1) == labels).mean())


def cosines(left: Array, right: Array) -> Array:
    """Return the cosine similarity of every row of ``left`` to the same row of ``right``."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation: 1 when both put their values in the same order."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    """Return the rank of every value from 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def negative_log_likelihood(logits: Array, targets: Array) -> Array:
    """Return ``-log softmax(logits)`` at the targets, in nats; logits are ``[..., classes]``."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
    return np.log(np.exp(shifted).sum(axis=-1)) - chosen


def perplexity(logits: Array, targets: Array) -> float:
    """Return ``exp`` of the mean negative log likelihood."""
    return float(np.exp(negative_log_likelihood(logits, targets).mean()))

"""The baseline that a trained language model must beat: counts of byte sequences."""

from pathlib import Path

import numpy as np

SOURCES = (Path(__file__),)

BYTES = 256


def ngram_bits(train: bytes, held_out: bytes, order: int = 2) -> float:
    """Return the bits per byte that counting gives, from ``order`` bytes of context.

    Witten and Bell's interpolation: a context that was followed by ``k`` different bytes in ``n``
    places gives ``k / (n + k)`` of the probability to what the shorter context says.
    """
    p = np.full(len(held_out) - order, 1 / BYTES)
    for length in range(order + 1):
        followed = np.bincount(_grams(train, length), minlength=BYTES ** (length + 1))
        grams = _grams(held_out, length)[order - length :]
        contexts = grams // BYTES
        places = followed.reshape(-1, BYTES).sum(axis=1)[contexts]
        kinds = np.count_nonzero(followed.reshape(-1, BYTES), axis=1)[contexts]
        seen = places > 0
        mixed = (followed[grams] + kinds * p) / np.maximum(places + kinds, 1)
        p = np.where(seen, mixed, p)
    return float(-np.log2(p).mean())


def _grams(text: bytes, length: int) -> np.ndarray:
    """Return, for every byte after the first ``length``, the number that it and they spell."""
    values = np.frombuffer(text, np.uint8).astype(np.int64)
    grams = np.zeros(len(values) - length, np.int64)
    for i in range(length + 1):
        grams = grams * BYTES + values[i : len(values) - length + i]
    return grams

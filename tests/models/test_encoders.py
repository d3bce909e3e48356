"""Text encoders with symbolic batch and length: one artifact for every size, and its meaning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeout

pytestmark = pytest.mark.models

VOCABULARY = 30522
TOKENS_MAX = 2048  # per batch: bounds the reference's time
CLOSER_THAN_ROUNDING = 1e-5


def _sizes(count: int, batch_max: int, length_max: int, seed: int) -> list[tuple[int, int]]:
    """Draw sizes: both ends of the range, then short and long ones alike."""
    generator = np.random.default_rng(seed)
    sizes = [(1, 1), (1, length_max), (batch_max, 1)]
    while len(sizes) < count:
        batch = int(generator.integers(1, batch_max + 1))
        length = round(length_max ** generator.uniform())
        if batch * length <= TOKENS_MAX:
            sizes.append((batch, length))
    return sizes


def _batch(batch: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """Draw tokens of ragged texts: each row has at least one token, then padding."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, length + 1, size=batch)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = generator.integers(1, VOCABULARY, size=(batch, length)) * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": generator.integers(0, 2, size=(batch, length)),
    }


@pytest.mark.parametrize(("name", "count"), [("minilm", 20), ("bert-base-dynamic", 5)])
def test_one_artifact_runs_every_batch_and_length(
    zoo: Callable[[str], Any],
    compiled: Callable[[str], Path],
    assert_agrees: Callable[..., None],
    name: str,
    count: int,
) -> None:
    model = zoo(name)
    batch_max, length_max = model.dims["B"][1], model.dims["S"][1]
    with tapeout.load(compiled(name), threads=2) as program:
        for seed, (batch, length) in enumerate(_sizes(count, batch_max, length_max, seed=4)):
            inputs = _batch(batch, length, seed)
            assert_agrees(program.run(inputs), model.reference(inputs))


def test_sentence_embeddings_rank_like_the_original(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    batch = zoo("minilm").arrays("sentences")
    original = batch.pop("embeddings")
    with tapeout.load(compiled("minilm"), threads=2) as program:
        ours = program.run(batch)["sentence_embedding"]
    assert _swapped(original @ original.T, ours @ ours.T) == []


def test_a_sentence_means_the_same_alone_and_in_a_padded_batch(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    batch = zoo("minilm").arrays("sentences")
    original = batch.pop("embeddings")
    with tapeout.load(compiled("minilm"), threads=2) as program:
        for row, embedding in enumerate(original):
            length = int(batch["attention_mask"][row].sum())
            alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
            found = program.run({k: np.ascontiguousarray(v) for k, v in alone.items()})
            np.testing.assert_allclose(found["sentence_embedding"][0], embedding, atol=1e-5)


def _swapped(original: np.ndarray, ours: np.ndarray) -> list[tuple[int, int, int]]:
    """List (query, a, b) where the original puts ``a`` before ``b`` and we do not.

    Pairs that the original itself cannot tell apart are left out.
    """
    before = original[:, :, None] - original[:, None, :] > CLOSER_THAN_ROUNDING
    not_before = ours[:, :, None] <= ours[:, None, :]
    return [(int(q), int(a), int(b)) for q, a, b in np.argwhere(before & not_before)]

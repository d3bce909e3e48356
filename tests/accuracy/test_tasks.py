"""Every task scores a stand-in for a program over data that is made for the purpose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = dict[str, np.ndarray]

LENGTHS = np.sort(np.random.default_rng(0).integers(2, 12, size=70))
LONGEST = int(LENGTHS.max())
WIDTH = 16


@pytest.fixture
def tasks(script: Callable[[str], Any]) -> Any:
    return script("tasks")


@pytest.fixture
def model(tasks: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that makes a model of stored arrays."""

    def make(stem: str, **arrays: np.ndarray) -> Any:
        np.savez(tmp_path / f"{stem}.npz", allow_pickle=False, **arrays)
        return tasks.Model("made-up", tmp_path, {})

    return make


@pytest.fixture
def sentences(model: Callable[..., Any]) -> Any:
    """Seventy sentences of which the first token is their number, and forty pairs of them."""
    mask = np.arange(LONGEST) < LENGTHS[:, None]
    ids = mask.astype(np.int64)
    ids[:, 0] += np.arange(len(LENGTHS))
    pairs = np.random.default_rng(1).permutation(len(LENGTHS))[:40].reshape(2, -1)
    return model(
        "pairs",
        input_ids=ids,
        attention_mask=mask.astype(np.int64),
        token_type_ids=np.zeros_like(ids),
        embeddings=_embeddings(),
        left=pairs[0],
        right=pairs[1],
    )


def _embeddings() -> np.ndarray:
    values = np.random.default_rng(2).standard_normal((len(LENGTHS), WIDTH))
    return values.astype(np.float32)


def _by_number(batch: Arrays) -> Arrays:
    return {"sentence_embedding": _embeddings()[batch["input_ids"][:, 0] - 1]}


def test_the_original_embeddings_keep_every_rank(tasks: Any, sentences: Any) -> None:
    assert tasks.similarity_ranks(sentences, _by_number) == pytest.approx(1.0)


def test_noise_on_the_embeddings_costs_ranks_by_its_size(tasks: Any, sentences: Any) -> None:
    def noisy(size: float) -> Callable[[Arrays], Arrays]:
        noise = size * np.random.default_rng(3).standard_normal((len(LENGTHS), WIDTH))

        def run(batch: Arrays) -> Arrays:
            return {"sentence_embedding": (_embeddings() + noise)[batch["input_ids"][:, 0] - 1]}

        return run

    little = tasks.similarity_ranks(sentences, noisy(0.05))
    much = tasks.similarity_ranks(sentences, noisy(1.0))
    assert 1 > little > 0.9 > much


def test_batches_hold_every_sentence_cut_to_the_longest_of_them(tasks: Any, sentences: Any) -> None:
    batches = list(tasks.sentences(sentences))
    assert max(len(batch["input_ids"]) for batch in batches) == tasks.BATCH
    numbers = np.concatenate([batch["input_ids"][:, 0] for batch in batches])
    np.testing.assert_array_equal(numbers - 1, np.arange(len(LENGTHS)))
    for batch in batches:
        lengths = batch["attention_mask"].sum(1)
        assert lengths.max() == batch["input_ids"].shape[1]
        assert all(array.flags.c_contiguous for array in batch.values())


def test_perplexity_is_of_the_byte_after_each(tasks: Any, model: Callable[..., Any]) -> None:
    text = np.arange(45 * 8 + 1) % 256
    windows = np.lib.stride_tricks.sliding_window_view(text, 9)[::8]

    def knows(batch: Arrays) -> Arrays:
        following = (batch["input_ids"] + 1) % 256
        return {"logits": 100.0 * (np.arange(256) == following[..., None])}

    def guesses(batch: Arrays) -> Arrays:
        return {"logits": np.zeros((*batch["input_ids"].shape, 256))}

    made = model("validation", windows=windows, nll=np.zeros(1))
    assert tasks.byte_perplexity(made, knows) == pytest.approx(1.0)
    assert tasks.byte_perplexity(made, guesses) == pytest.approx(256.0)


def test_the_classifier_is_scored_over_every_image(tasks: Any, model: Callable[..., Any]) -> None:
    labels = np.arange(100) % 10
    images = labels.astype(np.float32).reshape(-1, 1, 1, 1)

    def all_but_nines(batch: Arrays) -> Arrays:
        return {"logits": (np.arange(10) == batch["image"][:, 0, 0]) * np.arange(9, -1, -1)}

    made = model("test", images=images, labels=labels)
    assert tasks.digits_accuracy(made, all_but_nines) == 90.0


@pytest.mark.parametrize(
    ("name", "value", "fp32", "change"),
    [("digits", 98.0, 98.5, -0.5), ("minilm", 0.99, 1.0, -0.01), ("charlm", 4.12, 4.0, 3.0)],
)
def test_a_change_is_in_the_unit_of_its_limit(
    tasks: Any, name: str, value: float, fp32: float, change: float
) -> None:
    assert tasks.TASKS[name].change(value, fp32) == pytest.approx(change)

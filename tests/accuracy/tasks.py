"""Three models with trained weights, each with real data that it has not seen.

A task scores any callable that maps inputs by name to outputs by name, so that a compiled program,
another engine and a test's stand-in are judged alike.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from metrics import accuracy_percent, cosines, perplexity, spearman

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Mapping[str, np.ndarray]]

BATCH = 32


@dataclass(frozen=True)
class Model:
    """A made model of ``tests/models``: its folder and the ranges of its symbolic dimensions.

    The first ``seen`` samples of its evaluation data are left out of scores: a compiler that keeps
    a budget has seen them.
    """

    name: str
    folder: Path
    dims: Mapping[str, tuple[int, int]]
    seen: int = 0

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def calibration(self) -> Path:
        """Inputs by name, samples along the first axis; none of them is evaluated on."""
        return self.folder / "calibration.npz"

    def arrays(self, stem: str) -> Arrays:
        """Return the arrays that the recipe stored as ``stem.npz``."""
        with np.load(self.folder / f"{stem}.npz") as stored:
            return {name: stored[name] for name in stored.files}


def made(name: str) -> Model:
    """Make the model where it is missing, and return it."""
    script = Path(__file__).parents[1] / "models" / "make.py"
    command = [sys.executable, str(script), "--json", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    (facts,) = json.loads(done.stdout)
    dims = {dim: (lo, hi) for dim, (lo, hi) in facts["dims"].items()}
    return Model(name, Path(facts["folder"]), dims)


@dataclass(frozen=True)
class Task:
    """A metric on a model's real data.

    ``score`` takes the model and how to run it; ``reference`` is the score of the outputs that
    torch computed in fp32 when the model was made. ``unit`` is that of a change: ``%`` is relative
    to the reference. ``worse`` is 1 where a higher value is worse, else -1. ``samples`` gives the
    first ``seen`` of the evaluation data, with labels, to keep a budget by.
    """

    model: str
    metric: str
    score: Callable[[Model, Run], float]
    reference: Callable[[Model], float]
    unit: str
    worse: int
    decimals: int
    samples: Callable[[Model], list[Arrays]] | None = None
    seen: int = 0

    def change(self, value: float, fp32: float) -> float:
        """Return how far ``value`` is from the reference, in the task's unit."""
        return 100 * (value / fp32 - 1) if self.unit == "%" else value - fp32


def digits_accuracy(model: Model, run: Run) -> float:
    """Classify the test split: 360 images, so one image is 0.28 points."""
    test = model.arrays("test")
    parts = (run({"image": images})["logits"] for images in _chunks(test["images"]))
    return accuracy_percent(np.concatenate(list(parts)), test["labels"])


def similarities(model: Model, run: Run) -> np.ndarray:
    """Return the cosine similarity of each of the sentence pairs."""
    stored = model.arrays("pairs")
    found = np.concatenate([run(batch)["sentence_embedding"] for batch in sentences(model)])
    return cosines(found[stored["left"]], found[stored["right"]])


def sentences(model: Model) -> Iterator[Arrays]:
    """Yield the sentences of the pairs as batches of token ids and masks, each ``[B, S]``.

    They are stored by length: a batch is cut to its longest sentence.
    """
    stored = model.arrays("pairs")
    names = ("input_ids", "attention_mask", "token_type_ids")
    for rows in zip(*(_chunks(stored[name]) for name in names), strict=True):
        width = int(rows[names.index("attention_mask")].sum(1).max())
        cut = [np.ascontiguousarray(array[:, :width]) for array in rows]
        yield dict(zip(names, cut, strict=True))


def similarity_ranks(model: Model, run: Run) -> float:
    """Return how far the similarities keep the order that torch's embeddings give the pairs."""
    return spearman(similarities(model, run), _torch_similarities(model))


def _torch_similarities(model: Model) -> np.ndarray:
    stored = model.arrays("pairs")
    embeddings = stored["embeddings"]
    return cosines(embeddings[stored["left"]], embeddings[stored["right"]])


def byte_perplexity(model: Model, run: Run) -> float:
    """Return the perplexity per byte over the whole validation text, in windows of the context."""
    windows = model.arrays("validation")["windows"][model.seen :]
    parts = [run({"input_ids": part})["logits"] for part in _chunks(_inputs(windows))]
    return perplexity(np.concatenate(parts), windows[:, 1:])


def _window_samples(model: Model) -> list[Arrays]:
    windows = model.arrays("validation")["windows"]
    return [{"input_ids": _inputs(row[None]), "labels": row[None, 1:]} for row in windows]


def _inputs(windows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(windows[:, :-1])


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[i : i + BATCH] for i in range(0, len(array), BATCH))


def _stored_accuracy(model: Model) -> float:
    test = model.arrays("test")
    return accuracy_percent(test["logits"], test["labels"])


def _stored_perplexity(model: Model) -> float:
    return float(np.exp(model.arrays("validation")["nll"][model.seen :].mean()))


TASKS: Mapping[str, Task] = {
    task.model: task
    for task in (
        Task("digits", "accuracy %", digits_accuracy, _stored_accuracy, "points", -1, 2),
        Task("minilm", "Spearman", similarity_ranks, lambda _: 1.0, "", -1, 5),
        Task(
            *("charlm", "perplexity", byte_perplexity, _stored_perplexity, "%", 1, 3),
            *(_window_samples, 48),
        ),
    )
}
"""By the name of the model."""

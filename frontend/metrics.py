"""What a user may bound with ``--max-drop METRIC=VALUE``: how far a model's output may drift.

Metrics look at the first output of a model, sample by sample, against that of the model in f32.
``keep`` is what a metric needs of one sample, so that logits need not be held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from tapeout.ir.errors import CompileError
from tapeout.passes.budget.search import Budget

Array = np.ndarray[Any, Any]
LEAST_SAMPLES = 3
"""Rank correlation looks at pairs of samples: three have three."""


@dataclass(frozen=True)
class Metric:
    """``keep`` of each sample's output and labels, and ``drop`` of what was kept, f32 first.

    ``floor``: the value is the least allowed, not the most.
    """

    keep: Callable[[Array, Array | None], Array]
    drop: Callable[[Sequence[Array], Sequence[Array]], float]
    unit: str
    labels: bool = False
    floor: bool = False


def _hits(logits: Array, labels: Array | None) -> Array:
    assert labels is not None, "asked for"
    return logits.argmax(axis=-1) == labels.reshape(logits.shape[:-1])


def _points(plain: Sequence[Array], have: Sequence[Array]) -> float:
    """Points of accuracy lost."""
    before, after = (float(np.mean(_joined(kept))) for kept in (plain, have))
    return 100 * (before - after)


def _surprise(logits: Array, labels: Array | None) -> Array:
    """``-log softmax`` at the labels, in nats; labels below 0 are left out."""
    assert labels is not None, "asked for"
    targets = labels.reshape(logits.shape[:-1])
    counted = targets >= 0
    wide = logits[counted].astype(np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, targets[counted][:, None].astype(np.int64), axis=-1)
    return np.log(np.exp(shifted).sum(axis=-1)) - chosen[:, 0]


def _percent_more(plain: Sequence[Array], have: Sequence[Array]) -> float:
    """Per cent that the perplexity grows."""
    more = float(np.mean(_joined(have)) - np.mean(_joined(plain)))
    return 100 * math.expm1(more)


def _output(output: Array, labels: Array | None) -> Array:
    return output.astype(np.float64)


def _turned(plain: Sequence[Array], have: Sequence[Array]) -> float:
    """1 less the mean cosine of an output's rows with those in f32."""
    pairs = [_cosines(a, b) for a, b in zip(plain, have, strict=True)]
    return 1 - float(np.mean(_joined(pairs)))


def _cosines(a: Array, b: Array) -> Array:
    """Of each row along the last axis; two rows of zeros are alike."""
    a, b = (x.reshape(-1, x.shape[-1] if x.ndim else 1) for x in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    alike = (a == b).all(axis=1)
    return np.where(alike, 1.0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1))


def _reordered(plain: Sequence[Array], have: Sequence[Array]) -> float:
    """1 less Spearman's correlation of how alike the outputs of each two samples are."""
    return 1 - float(np.corrcoef(_ranks(_likeness(plain)), _ranks(_likeness(have)))[0, 1])


def _likeness(outputs: Sequence[Array]) -> Array:
    if len(outputs) < LEAST_SAMPLES or len({o.size for o in outputs}) > 1:
        raise CompileError(
            "E0115",
            "spearman compares the outputs of samples with each other",
            [("samples", len(outputs)), ("sizes", sorted({o.size for o in outputs}))],
            f"give {LEAST_SAMPLES} samples or more whose outputs are equally large, or take cosine",
        )
    rows = np.stack([o.reshape(-1) for o in outputs])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def _ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _decibels(plain: Sequence[Array], have: Sequence[Array]) -> float:
    """Signal to noise of the output in dB."""
    signal = sum(float(np.sum(a**2)) for a in plain)
    noise = sum(float(np.sum((a - b) ** 2)) for a, b in zip(plain, have, strict=True))
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate([part.reshape(-1) for part in parts])


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_hits, _points, "points", labels=True),
    "perplexity": Metric(_surprise, _percent_more, "%", labels=True),
    "cosine": Metric(_output, _turned, "of 1"),
    "spearman": Metric(_output, _reordered, "of 1"),
    "sqnr": Metric(_output, _decibels, "dB", floor=True),
}


def parse_max_drop(text: str) -> tuple[Metric, Budget]:
    """The metric and the budget of ``METRIC=VALUE``; E0114 for what is none."""
    name, equals, value = text.partition("=")
    facts = [("where", "--max-drop"), ("given", text), ("metrics", ", ".join(METRICS))]
    if name not in METRICS:
        near = get_close_matches(name.casefold(), METRICS, 1)
        fix = f"did you mean {near[0]}?" if near else "write METRIC=VALUE, as in accuracy=0.5"
        raise CompileError("E0114", f"there is no metric '{name}'", facts, fix)
    metric = METRICS[name]
    try:
        limit = float(value) if equals else math.nan
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit) or (limit < 0 and not metric.floor):
        what = (
            f"'{value}' is no number {'of dB' if metric.floor else f'from 0 on, in {metric.unit}'}"
        )
        raise CompileError("E0114", what, facts, f"write {name}=0.5, for example")
    return metric, Budget(
        -limit if metric.floor else limit,
        (lambda drop: -drop) if metric.floor else (lambda drop: drop),
        text,
        lambda drop: f"{name} {drop:.4g} {metric.unit}",
    )

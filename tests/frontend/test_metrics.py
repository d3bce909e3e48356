"""What ``--max-drop`` bounds: each metric against what is known of it, and what is no budget."""

import math

import numpy as np
import pytest

from tapeout.frontend.metrics import METRICS, check_data, parse_max_drop
from tapeout.ir.errors import CompileError

RANDOM = np.random.default_rng(0)


def drop(
    name: str, plain: list[np.ndarray], have: list[np.ndarray], labels: object = None
) -> float:
    metric = METRICS[name]
    known = [np.asarray(labels)] * len(plain) if labels is not None else [None] * len(plain)
    kept = [
        [metric.keep(output, of) for output, of in zip(outputs, known, strict=True)]
        for outputs in (plain, have)
    ]
    return metric.drop(*kept)


def test_accuracy_is_lost_in_points() -> None:
    plain = [np.array([[1.0, 2.0], [3.0, 2.0], [0.0, 1.0], [5.0, 1.0]])]
    have = [np.array([[1.0, 2.0], [2.0, 3.0], [0.0, 1.0], [5.0, 1.0]])]
    assert drop("accuracy", plain, have, [1, 0, 1, 1]) == pytest.approx(25)
    assert drop("accuracy", have, plain, [1, 0, 1, 1]) == pytest.approx(-25)


def test_perplexity_grows_in_per_cent_and_passes_over_labels_below_0() -> None:
    plain = [np.log(np.array([[[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]]))]
    have = [np.log(np.array([[[0.25, 0.75], [0.2, 0.8], [0.1, 0.9]]]))]
    # exp of the mean of ln 2 is 1.41..., of ln 4 is 2: of two counted tokens, one halved.
    assert drop("perplexity", plain, have, [[0, 1, -1]]) == pytest.approx(100 * (math.sqrt(2) - 1))


def test_outputs_that_only_grow_point_the_same_way() -> None:
    plain = [RANDOM.standard_normal((2, 8)) for _ in range(4)]
    assert drop("cosine", plain, [3 * x for x in plain]) == pytest.approx(0, abs=1e-12)
    assert drop("cosine", plain, [-x for x in plain]) == pytest.approx(2)
    zeros = [np.zeros((2, 8))]
    assert drop("cosine", zeros, zeros) == 0
    assert drop("cosine", zeros, plain[:1]) == 1


def test_spearman_looks_at_the_order_of_likeness() -> None:
    plain = [RANDOM.standard_normal((1, 16)) for _ in range(12)]
    assert drop("spearman", plain, [2 * x for x in plain]) == pytest.approx(0, abs=1e-12)
    noisy = [x + 0.3 * RANDOM.standard_normal(x.shape) for x in plain]
    noisier = [x + 3 * RANDOM.standard_normal(x.shape) for x in plain]
    assert 0 < drop("spearman", plain, noisy) < drop("spearman", plain, noisier) < 2
    with pytest.raises(CompileError, match="E0115"):
        drop("spearman", plain[:2], plain[:2])


def test_sqnr_is_in_decibels() -> None:
    x = RANDOM.standard_normal(1000)
    assert drop("sqnr", [x], [1.1 * x]) == pytest.approx(20)
    assert drop("sqnr", [x], [x]) == math.inf


def test_a_budget_is_the_most_that_may_be_lost_or_the_least_that_must_stay() -> None:
    _, points = parse_max_drop("accuracy=0.5")
    assert [points.met(x) for x in (-1, 0.5, 0.6, math.nan)] == [True, True, False, False]
    _, floor = parse_max_drop("sqnr=30")
    assert [floor.met(x) for x in (math.inf, 30, 29.9, math.nan)] == [True, True, False, False]


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=", "accuracy=much", "accuracy=-1", "accuracy=nan", "f1=3", "=3"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(CompileError, match="E0114"):
        parse_max_drop(text)


def test_a_budget_finer_than_one_label_needs_more_of_them() -> None:
    plain = [np.ones(60, bool), np.ones(60, bool)]
    check_data(*parse_max_drop("accuracy=1"), plain)
    check_data(*parse_max_drop("accuracy=0"), plain)
    check_data(*parse_max_drop("sqnr=1"), plain)
    with pytest.raises(CompileError, match="give 200 labels or more"):
        check_data(*parse_max_drop("accuracy=0.5"), plain)

"""The metrics on values whose result is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def metrics(script: Callable[[str], Any]) -> Any:
    return script("metrics")


def test_spearman_sees_the_order_only(metrics: Any) -> None:
    values = np.random.default_rng(0).standard_normal(100)
    assert metrics.spearman(values, np.exp(values)) == pytest.approx(1.0)
    assert metrics.spearman(values, -(values**3)) == pytest.approx(-1.0)
    shuffled = np.random.default_rng(1).permutation(values)
    assert abs(metrics.spearman(values, shuffled)) < 0.3


def test_equal_values_share_the_mean_of_their_ranks(metrics: Any) -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    found = metrics.spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert found == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))


def test_one_swap_of_neighbours_costs_what_the_formula_says(metrics: Any) -> None:
    ranks = np.arange(10.0)
    swapped = ranks.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert metrics.spearman(ranks, swapped) == pytest.approx(1 - 6 * 2 / (10 * 99))


def test_equal_logits_are_as_perplexed_as_there_are_classes(metrics: Any) -> None:
    logits = np.full((2, 5, 7), 1000.0, np.float32)  # exp of which overflows
    assert metrics.perplexity(logits, np.zeros((2, 5), np.int64)) == pytest.approx(7.0)


def test_likelihood_is_that_of_the_target(metrics: Any) -> None:
    logits = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    found = metrics.negative_log_likelihood(logits, np.array([1, 1]))
    np.testing.assert_allclose(found, -np.log([0.75, 0.1]))


def test_a_vector_is_as_like_a_multiple_of_itself_as_can_be(metrics: Any) -> None:
    left = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    right = np.array([[3.0, 6.0], [0.0, 2.0], [-2.0, -2.0]], np.float32)
    np.testing.assert_allclose(metrics.cosines(left, right), [1.0, 0.0, -1.0], atol=1e-15)


def test_accuracy_counts_the_largest_logit_at_the_label(metrics: Any) -> None:
    logits = np.array([[1.0, 2.0], [3.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
    assert metrics.accuracy_percent(logits, np.array([1, 0, 1, 0])) == 75.0

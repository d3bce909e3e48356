"""Counts of n-grams, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Check = Callable[..., None]
Nodes = Callable[..., Any]

# Two 1-grams, three 2-grams and one 3-gram.
ATTRS: dict[str, Any] = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 3,
    "max_skip_count": 2,
    "ngram_counts": [0, 2, 8],
    "ngram_indexes": [3, 0, 1, 5, 2, 4],
    "pool_int64s": [2, 3, 1, 2, 2, 3, 3, 3, 1, 2, 3],
    "weights": [0.5, 2.0, 1.0, 3.0, 0.25, 4.0],
}
ROWS = np.array([[1, 2, 3, 1, 2, 3, 3], [3, 3, 3, 3, 3, 3, 3], [9, 9, 1, 9, 2, 9, 3]])


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 2, 5])
@pytest.mark.parametrize("open_dims", [False, True])
def test_counts_agree_over_all_skips(
    one_node: Nodes, agrees_with_onnxruntime: Check, mode: str, skips: int, open_dims: bool
) -> None:
    attrs = ATTRS | {"mode": mode, "max_skip_count": skips}
    node = one_node("TfIdfVectorizer", {"x": ROWS}, open_dims=open_dims, attrs=attrs)
    agrees_with_onnxruntime(node)


def test_a_row_shorter_than_the_n_gram_counts_nothing_of_it(one_node: Nodes) -> None:
    (y,) = one_node("TfIdfVectorizer", {"x": np.array([3])}, attrs=ATTRS).evaluated()
    np.testing.assert_array_equal(y, [1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "change",
    [
        {"ngram_indexes": [0, 1]},
        {"ngram_indexes": [0, 1, 2, 3, 4, -1]},
        {"ngram_indexes": [0, 1, 2, 3, 4, 2**40]},
        {"ngram_counts": [1, 2, 8]},
        {"ngram_counts": [0, 8, 2]},
        {"weights": [1.0]},
        {"min_gram_length": 0},
        {"max_skip_count": -1},
        {"mode": "BM25"},
    ],
)
def test_pools_that_do_not_fit_are_refused(one_node: Nodes, change: dict[str, Any]) -> None:
    with pytest.raises(CompileError) as caught:
        one_node("TfIdfVectorizer", {"x": ROWS}, attrs=ATTRS | change).module()
    assert caught.value.code == "E0310"

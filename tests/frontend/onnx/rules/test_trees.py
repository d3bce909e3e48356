"""Tree ensembles and linear models, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

DOMAIN = "ai.onnx.ml"


def _regressor(modes: list[str], tracks: list[int] | None = None) -> dict[str, Any]:
    """Two trees over three features, three levels deep, with two targets."""
    return {
        "n_targets": 2,
        "nodes_treeids": [0] * 5 + [1] * 3,
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
        "nodes_modes": [modes[0], modes[1], "LEAF", "LEAF", "LEAF", modes[2], "LEAF", "LEAF"],
        "nodes_values": [0.5, -0.25, 0, 0, 0, 1.0, 0, 0],
        "nodes_truenodeids": [1, 2, 0, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [4, 3, 0, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": tracks or [0] * 8,
        "target_treeids": [0, 0, 0, 0, 1, 1],
        "target_nodeids": [2, 2, 3, 4, 1, 2],
        "target_ids": [0, 1, 0, 1, 0, 1],
        "target_weights": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    }


ROWS = np.array(
    [[a, b, c] for a in (0.25, 0.5, 0.75) for b in (-0.5, -0.25, 0) for c in (0.5, 1, 1.5)],
    np.float32,
)


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"])
def test_every_comparison_agrees_at_its_threshold(
    one_node: Nodes, agrees_with_onnxruntime: Check, mode: str
) -> None:
    attrs = _regressor([f"BRANCH_{mode}"] * 3)
    node = one_node("TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, attrs=attrs)
    agrees_with_onnxruntime(node)


def test_comparisons_may_differ_from_node_to_node(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    attrs = _regressor(["BRANCH_GT", "BRANCH_LEQ", "BRANCH_EQ"])
    node = one_node(
        "TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, open_dims=True, attrs=attrs
    )
    agrees_with_onnxruntime(node)


def test_base_values_are_added_to_every_target(one_node: Nodes) -> None:
    attrs = _regressor(["BRANCH_LEQ"] * 3)
    plain = one_node("TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, attrs=attrs)
    attrs = attrs | {"base_values": [0.5, -0.5]}
    based = one_node("TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, attrs=attrs)
    want = plain.evaluated()[0] + np.array([0.5, -0.5], np.float32)
    np.testing.assert_array_equal(based.evaluated()[0], want)


@pytest.mark.parametrize("mode", ["LEQ", "GT"])
def test_nan_goes_where_the_node_says(
    one_node: Nodes, agrees_with_onnxruntime: Check, mode: str
) -> None:
    x = ROWS.copy()
    x[::2, 0] = np.nan
    x[1::3, 2] = np.nan
    attrs = _regressor([f"BRANCH_{mode}"] * 3, [1, 0, 0, 0, 0, 1, 0, 0])
    node = one_node("TreeEnsembleRegressor", {"x": x}, domain=DOMAIN, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_leaves_are_combined_over_the_trees(
    one_node: Nodes, agrees_with_onnxruntime: Check, aggregate: str
) -> None:
    attrs = _regressor(["BRANCH_LEQ"] * 3)
    # Every leaf votes for the one target, so no tree is silent.
    attrs |= {"n_targets": 1, "target_ids": [0] * 5, "aggregate_function": aggregate}
    for name in ("target_treeids", "target_nodeids", "target_weights"):
        attrs[name] = [v for i, v in enumerate(attrs[name]) if i != 1]
    node = one_node("TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, attrs=attrs)
    agrees_with_onnxruntime(node)


def test_a_classifier_gives_labels_and_scores(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    attrs = _regressor(["BRANCH_LEQ"] * 3)
    attrs = {n.replace("target_", "class_"): v for n, v in attrs.items() if n != "n_targets"}
    attrs |= {"classlabels_int64s": [7, 9, 8], "class_ids": [0, 1, 2, 1, 0, 2]}
    node = one_node("TreeEnsembleClassifier", {"x": ROWS}, 2, domain=DOMAIN, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes_truenodeids": [0, 2, 0, 0, 0, 1, 0, 0]}, "leads back"),
        ({"nodes_truenodeids": [9, 2, 0, 0, 0, 1, 0, 0]}, "does not exist"),
        ({"nodes_featureids": [-1, 1, 0, 0, 0, 2, 0, 0]}, "out of range"),
        ({"nodes_featureids": [0]}, "differ in length"),
        ({"target_ids": [0, 1, 0, 1, 0, 5]}, "do not fit"),
        ({"nodes_modes": ["BRANCH_X"] * 8}, "comparison"),
    ],
)
def test_malformed_trees_are_refused(one_node: Nodes, change: dict[str, Any], said: str) -> None:
    attrs = _regressor(["BRANCH_LEQ"] * 3) | change
    with pytest.raises(CompileError, match=said) as caught:
        one_node("TreeEnsembleRegressor", {"x": ROWS}, domain=DOMAIN, attrs=attrs).module()
    assert caught.value.code == "E0310"


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_linear_models_agree(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, transform: str
) -> None:
    attrs = {
        "coefficients": numbers(9).tolist(),
        "intercepts": numbers(3).tolist(),
        "post_transform": transform,
    }
    x = {"x": numbers(5, 3)}
    labels = {"classlabels_ints": [4, 5, 6]}
    node = one_node("LinearClassifier", x, 2, domain=DOMAIN, attrs=attrs | labels)
    agrees_with_onnxruntime(node)
    if transform == "NONE":
        more = {"targets": 3}
        agrees_with_onnxruntime(one_node("LinearRegressor", x, domain=DOMAIN, attrs=attrs | more))


def test_labels_are_encoded_and_unknown_ones_get_the_default(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    attrs = {"keys_int64s": [3, 1, 7], "values_floats": [0.5, 1.5, 2.5], "default_float": -2.0}
    node = one_node("LabelEncoder", {"x": np.array([[1, 2], [7, 3]])}, domain=DOMAIN, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_rows_are_normalised(one_node: Nodes, norm: str) -> None:
    x = np.array([[1, -4], [0, 0]], np.float32)
    (y,) = one_node("Normalizer", {"x": x}, domain=DOMAIN, attrs={"norm": norm}).evaluated()
    divisor = {"MAX": 4, "L1": 5, "L2": 17**0.5}[norm]
    np.testing.assert_allclose(y, [[1 / divisor, -4 / divisor], [0, 0]], rtol=1e-6)


def test_sets_of_members_are_asked_for_one_by_one(one_node: Nodes) -> None:
    attrs = {
        "n_targets": 1,
        "aggregate_function": 1,
        "post_transform": 0,
        "tree_roots": [0],
        "nodes_modes": numpy_helper.from_array(np.array([6], np.uint8), "modes"),
        "nodes_featureids": [0],
        "nodes_splits": numpy_helper.from_array(np.array([0], np.float32), "splits"),
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": numpy_helper.from_array(np.array([1, 2], np.float32), "weights"),
        "membership_values": numpy_helper.from_array(
            np.array([1.5, -2, 4, np.nan], np.float32), "members"
        ),
    }
    x = np.array([[1.5], [-2], [4], [3], [np.nan]], np.float32)
    (y,) = one_node("TreeEnsemble", {"x": x}, domain=DOMAIN, attrs=attrs).evaluated()
    np.testing.assert_array_equal(y[:, 0], [1, 1, 1, 2, 2])

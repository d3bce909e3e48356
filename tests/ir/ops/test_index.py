"""Gathers, scatters and sorts agree with ONNX's reference and torch."""

from typing import Any

import numpy as np
import pytest
import torch

from tapeout.ir.expr import as_expr, symbol

COUNT = (symbol("count"),)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gathers_agree_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, axis: int
) -> None:
    x = normal(4, 5, 6)
    indices = np.random.default_rng(1).integers(-4, 4, (2, 3))
    close(apply("nn.gather", x, indices, axis=axis), *onnx_node("Gather", x, indices, axis=axis))
    single = np.random.default_rng(2).integers(-4, 4, (2, 5, 3))
    close(apply("nn.gather_elements", x, single, axis=axis), _gathered(x, single, axis))


def _gathered(x: Any, indices: Any, axis: int) -> Any:
    positive = torch.tensor(np.where(indices < 0, indices + x.shape[axis], indices))
    return torch.gather(torch.tensor(x), axis, positive).numpy()


@pytest.mark.parametrize(("batch", "shape"), [(0, (2, 3, 2)), (1, (4, 3, 1)), (2, (4, 5, 1))])
def test_gather_nd_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, batch: int, shape: tuple[int, ...]
) -> None:
    x, indices = normal(4, 5, 6), np.random.default_rng(1).integers(0, 4, shape)
    (want,) = onnx_node("GatherND", x, indices, batch_dims=batch)
    close(apply("nn.gather_nd", x, indices, batch_dims=batch), want)


@pytest.mark.parametrize(
    ("fn", "onnx_name"),
    [("none", "none"), ("sum", "add"), ("prod", "mul"), ("max", "max"), ("min", "min")],
)
def test_scatters_agree_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, fn: str, onnx_name: str
) -> None:
    x, updates = normal(4, 5), normal(3, 5)
    # Equal indices combine; a plain replacement is tested without them.
    rows = np.array([3, 0, 2]) if fn == "none" else np.array([1, -3, 1])
    indices = np.repeat(rows[:, None], 5, axis=1)
    (want,) = onnx_node("ScatterElements", x, indices, updates, axis=0, reduction=onnx_name)
    close(apply("nn.scatter_elements", x, indices, updates, axis=0, fn=fn), want)
    (want,) = onnx_node("ScatterND", x, rows[:, None], updates, reduction=onnx_name)
    close(apply("nn.scatter_nd", x, rows[:, None], updates, fn=fn), want)


def test_the_last_of_equal_indices_wins_a_replacement(apply: Any) -> None:
    x, updates = np.zeros(3, np.float32), np.array([1, 2, 3], np.float32)
    y = apply("nn.scatter_elements", x, np.array([1, 1, 0]), updates, fn="none")
    np.testing.assert_array_equal(y, [3, 2, 0])


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_out_of_range_is_an_error(apply: Any, normal: Any, index: int) -> None:
    with pytest.raises(IndexError):
        apply("nn.gather", normal(4, 2), np.array([index]), axis=0)


@pytest.mark.parametrize("largest", [True, False])
def test_top_k_agrees_with_onnx_and_orders_equals_by_index(
    apply: Any, onnx_node: Any, close: Any, largest: bool
) -> None:
    x = np.random.default_rng(5).integers(0, 3, (3, 7)).astype(np.float32)
    values, places = onnx_node(
        "TopK", x, np.array([4]), outputs=2, axis=1, largest=int(largest), sorted=1
    )
    y, indices = apply("nn.top_k", x, k=(as_expr(4),), axis=1, largest=largest)
    close(y, values)
    np.testing.assert_array_equal(indices, places)


def test_top_k_takes_nan_for_the_largest(apply: Any) -> None:
    x = np.array([1, np.nan, 2], np.float32)
    np.testing.assert_array_equal(apply("nn.top_k", x, k=(as_expr(2),), axis=0)[1], [1, 2])
    last = apply("nn.top_k", x, k=(as_expr(3),), axis=0, largest=False)[1]
    np.testing.assert_array_equal(last, [0, 2, 1])


@pytest.mark.parametrize("shape", [(4, 5), (6,), ()])
def test_non_zero_agrees_with_onnx(apply: Any, onnx_node: Any, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(1).integers(0, 2, shape) + (0 if shape else 1))
    result = apply("nn.non_zero", x, count=COUNT)
    assert result.shape[0] == len(shape)
    if shape:
        np.testing.assert_array_equal(result, onnx_node("NonZero", x)[0])
    else:
        assert result.shape == (0, 1)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique_agrees_with_onnx(apply: Any, onnx_node: Any, axis: int | None) -> None:
    x = np.random.default_rng(2).integers(0, 2, (6, 4)).astype(np.float32)
    more = {} if axis is None else {"axis": axis}
    want = onnx_node("Unique", x, outputs=4, sorted=1, **more)
    for one, expected in zip(apply("nn.unique", x, axis=axis, count=COUNT), want, strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unsorted_unique_keeps_the_order_of_first_occurrence(apply: Any, axis: int | None) -> None:
    x = np.random.default_rng(2).integers(0, 2, (6, 4))
    y, first, inverse, counts = apply("nn.unique", x, axis=axis, sorted=False, count=COUNT)
    line = x.reshape(-1) if axis is None else x
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(np.take(line, first, axis or 0), y)
    np.testing.assert_array_equal(np.take(y, inverse, axis or 0), line)
    np.testing.assert_array_equal(np.bincount(inverse), counts)


@pytest.mark.parametrize("center", [False, True])
def test_suppression_agrees_with_onnx(apply: Any, onnx_node: Any, center: bool) -> None:
    random = np.random.default_rng(8)
    low = random.uniform(0, 5, (2, 12, 2))
    size = random.uniform(0.5, 4, (2, 12, 2))
    boxes = np.concatenate([low, size if center else low + size], axis=2).astype(np.float32)
    scores = random.uniform(0, 1, (2, 3, 12)).astype(np.float32)
    most, iou, score = np.array([4]), np.array([0.25], np.float32), np.array([0.2], np.float32)
    (want,) = onnx_node(
        "NonMaxSuppression", boxes, scores, most, iou, score, center_point_box=int(center)
    )
    result = apply(
        "nn.nms", boxes, scores, most[0], iou[0], score[0], center_point_box=center, count=COUNT
    )
    assert 0 < len(want) < 2 * 3 * 12
    np.testing.assert_array_equal(result, want)

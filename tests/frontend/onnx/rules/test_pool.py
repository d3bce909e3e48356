"""Pools: padding that counts or not, ceiling, open sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("open_dims", [False, True])
def test_automatic_padding_agrees_when_sizes_are_known_and_when_open(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    op: str,
    auto_pad: str,
    open_dims: bool,
) -> None:
    attrs = {"auto_pad": auto_pad, "kernel_shape": [3, 2], "strides": [2, 3]}
    node = one_node(op, {"x": numbers(2, 3, 8, 7)}, open_dims=open_dims, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("size", [7, 8, 9, 10])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("open_dims", [False, True])
def test_ceiling_counts_no_window_that_starts_in_the_padding(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    size: int,
    op: str,
    open_dims: bool,
) -> None:
    attrs = {"ceil_mode": 1, "kernel_shape": [3], "strides": [3], "pads": [1, 1]}
    node = one_node(op, {"x": numbers(1, 2, size)}, open_dims=open_dims, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("count", [0, 1])
def test_padding_takes_part_in_the_mean_only_when_asked_to(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, count: int
) -> None:
    attrs = {"count_include_pad": count, "kernel_shape": [3, 3], "pads": [1, 2, 2, 1]}
    agrees_with_onnxruntime(one_node("AveragePool", {"x": numbers(1, 2, 6, 5)}, attrs=attrs))


@pytest.mark.parametrize("order", [0, 1])
def test_indices_agree_in_both_storage_orders(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, order: int
) -> None:
    attrs = {
        "kernel_shape": [2, 2],
        "strides": [2, 1],
        "storage_order": order,
        "pads": [1, 0, 0, 1],
    }
    node = one_node("MaxPool", {"x": numbers(2, 2, 5, 4)}, outputs=2, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools_agree_on_open_sizes(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, op: str
) -> None:
    agrees_with_onnxruntime(one_node(op, {"x": numbers(2, 3, 4, 5)}, open_dims=True))


def test_the_mean_of_many_half_floats_does_not_overflow(one_node: Nodes) -> None:
    x = np.full((1, 1, 64, 64), 100, np.float16)
    (y,) = one_node("GlobalAveragePool", {"x": x}).evaluated()
    assert y.dtype == np.float16
    assert y.item() == 100


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_normalisation_agrees_at_every_size(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, size: int
) -> None:
    attrs = {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}
    # ONNX Runtime takes odd sizes only; even ones are compared with the definition.
    x = numbers(2, 7, 3, 4)
    if size % 2:
        agrees_with_onnxruntime(one_node("LRN", {"x": x}, open_dims=True, attrs=attrs))
        return
    (y,) = one_node("LRN", {"x": x}, attrs=attrs).evaluated()
    low, high = (size - 1) // 2, size // 2
    total = np.stack(
        [(x[:, max(0, c - low) : c + high + 1] ** 2).sum(1) for c in range(x.shape[1])], 1
    )
    np.testing.assert_allclose(y, x / (1.5 + 0.3 / size * total) ** 0.6, rtol=1e-5)


def test_regions_agree_in_both_frames(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    rois = np.array([[0, 0, 5, 6], [2, 1, 7, 4], [1.5, 2.5, 3, 3]], np.float32)
    inputs = {"x": numbers(2, 3, 8, 9), "rois": rois, "batch": np.array([0, 1, 1])}
    for mode in ("half_pixel", "output_half_pixel"):
        attrs = {
            "coordinate_transformation_mode": mode,
            "output_height": 2,
            "output_width": 3,
            "spatial_scale": 0.8,
        }
        agrees_with_onnxruntime(one_node("RoiAlign", inputs, attrs=attrs))


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({}, "kernel_shape"),
        ({"kernel_shape": [0, 2]}, "kernel_shape"),
        ({"kernel_shape": [2]}, "kernel_shape"),
        ({"kernel_shape": [2, 2], "strides": [0, 0]}, "strides"),
        ({"kernel_shape": [9, 9]}, "larger than the padded input"),
    ],
)
def test_attributes_out_of_range_are_refused(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], said: str
) -> None:
    with pytest.raises(CompileError, match=said) as caught:
        one_node("MaxPool", {"x": numbers(1, 1, 5, 5)}, attrs=attrs).module()
    assert caught.value.code == "E0310"

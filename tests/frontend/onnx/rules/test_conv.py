"""Convolutions: automatic padding, groups, open sizes, integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("open_dims", [False, True])
def test_automatic_padding_agrees_when_sizes_are_known_and_when_open(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    auto_pad: str,
    stride: int,
    open_dims: bool,
) -> None:
    inputs = {"x": numbers(2, 3, 11, 8), "w": numbers(4, 3, 3, 2), "b": numbers(4)}
    attrs = {"auto_pad": auto_pad, "strides": [stride, stride]}
    node = one_node("Conv", inputs, fixed=["w", "b"], open_dims=open_dims, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("spatial", [(9,), (7, 8), (5, 6, 4)])
def test_groups_dilations_and_uneven_padding_agree_in_every_dimension(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, spatial: tuple[int, ...]
) -> None:
    n = len(spatial)
    inputs = {"x": numbers(2, 4, *spatial), "w": numbers(6, 2, *[2] * n)}
    attrs = {"group": 2, "dilations": [2] * n, "pads": [1] * n + [2] * n, "strides": [2] * n}
    agrees_with_onnxruntime(one_node("Conv", inputs, fixed=["w"], open_dims=True, attrs=attrs))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_transposed_convolution_agrees_with_automatic_padding(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, auto_pad: str
) -> None:
    inputs = {"x": numbers(1, 4, 5, 6), "w": numbers(4, 3, 3, 5)}
    attrs = {"auto_pad": auto_pad, "strides": [2, 3], "group": 2}
    agrees_with_onnxruntime(one_node("ConvTranspose", inputs, fixed=["w"], attrs=attrs))


def test_transposed_convolution_agrees_with_a_wanted_output_shape(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    inputs = {"x": numbers(1, 2, 4, 5), "w": numbers(2, 3, 3, 3), "b": numbers(3)}
    attrs = {"output_shape": [8, 10], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    agrees_with_onnxruntime(one_node("ConvTranspose", inputs, fixed=["w", "b"], attrs=attrs))


def test_quantised_convolution_agrees_with_scales_per_channel(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    source = np.random.default_rng(0)
    inputs = {
        "x": source.integers(0, 255, (1, 3, 6, 6), np.uint8),
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "w": source.integers(-127, 127, (4, 3, 3, 3), np.int8),
        "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": np.float32(0.07),
        "yz": np.uint8(100),
        "b": source.integers(-2000, 2000, 4, np.int32),
    }
    fixed = [n for n in inputs if n != "x"]
    node = one_node("QLinearConv", inputs, fixed=fixed, attrs={"pads": [1, 1, 1, 1]})
    # ONNX Runtime multiplies scales in another order: one unit may differ.
    agrees_with_onnxruntime(node, rtol=0, atol=1)


def test_padding_of_integers_stands_for_the_zero_point(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    source = np.random.default_rng(0)
    inputs = {
        "x": source.integers(0, 255, (1, 1, 4, 4), np.uint8),
        "w": source.integers(0, 255, (2, 1, 3, 3), np.uint8),
        "xz": np.uint8(7),
        "wz": np.uint8(9),
    }
    node = one_node("ConvInteger", inputs, fixed=["w", "wz"], attrs={"pads": [1, 1, 1, 1]})
    agrees_with_onnxruntime(node)


def test_constant_padding_stays_in_the_convolution(one_node: Nodes, numbers: Numbers) -> None:
    inputs = {"x": numbers(1, 1, 5, 5), "w": numbers(1, 1, 3, 3)}
    node = one_node("Conv", inputs, fixed=["w"], open_dims=True, attrs={"auto_pad": "SAME_UPPER"})
    assert "nn.pad" not in node.operators()


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"strides": [0, 1]}, "strides"),
        ({"strides": [1]}, "strides"),
        ({"dilations": [0, 0]}, "dilations"),
        ({"group": 0}, "group"),
        ({"pads": [-1, 0, 0, 0]}, "pads"),
        ({"pads": [1, 1]}, "pads"),
        ({"auto_pad": "SAME"}, "auto_pad"),
        ({"kernel_shape": [2, 2]}, "kernel_shape"),
        ({"dilations": [5, 5]}, "larger than the padded input"),
    ],
)
def test_attributes_out_of_range_are_refused_with_the_node_and_the_values(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], said: str
) -> None:
    node = one_node("Conv", {"x": numbers(1, 1, 5, 5), "w": numbers(1, 1, 3, 3)}, attrs=attrs)
    with pytest.raises(CompileError) as caught:
        node.module()
    assert caught.value.code == "E0310"
    assert said in str(caught.value)
    assert "the_node" in str(caught.value)

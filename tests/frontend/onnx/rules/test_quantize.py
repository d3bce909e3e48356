"""Quantised tensors: exact integers, saturation, axes and blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


def test_ties_round_to_even_and_values_saturate(one_node: Nodes) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9], np.float32)
    inputs = {"x": x, "s": np.float32(1), "z": np.int8(1)}
    (y,) = one_node("QuantizeLinear", inputs, 1, 21, fixed=["s", "z"]).evaluated()
    np.testing.assert_array_equal(y, np.array([1, 3, 3, 1, -1, 127, -128], np.int8))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scales_along_an_axis_agree(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, op: str, axis: int
) -> None:
    shape = (3, 4, 5)
    source = np.random.default_rng(0)
    x = numbers(*shape) if op == "QuantizeLinear" else source.integers(0, 255, shape, np.uint8)
    scale = np.abs(numbers(shape[axis])) * 0.1 + 0.01
    zero = source.integers(100, 150, shape[axis], np.uint8)
    inputs = {"x": x, "s": scale, "z": zero}
    node = one_node(op, inputs, fixed=["s", "z"], open_dims=True, attrs={"axis": axis})
    agrees_with_onnxruntime(node)


def test_blocks_agree_and_the_last_may_be_short(one_node: Nodes, numbers: Numbers) -> None:
    x, scale = numbers(2, 5), np.array([[0.1, 0.2, 0.4], [0.3, 0.6, 0.9]], np.float32)
    attrs = {"axis": 1, "block_size": 2, "output_dtype": 3}
    node = one_node("QuantizeLinear", {"x": x, "s": scale}, 1, 21, fixed=["s"], attrs=attrs)
    wide = np.repeat(scale, 2, 1)[:, :5]
    want = np.clip(np.rint(x / wide), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(node.evaluated()[0], want)


def test_the_dynamic_range_holds_zero_and_zeros_stay(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    agrees_with_onnxruntime(one_node("DynamicQuantizeLinear", {"x": numbers(3, 4) + 9}, 3))
    y, scale, zero = one_node(
        "DynamicQuantizeLinear", {"x": np.zeros(4, np.float32)}, 3
    ).evaluated()
    assert np.isfinite(scale)
    assert (y == zero).all()


def test_integer_products_agree_with_zero_points_per_column(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    source = np.random.default_rng(0)
    inputs = {
        "x": source.integers(0, 255, (2, 4, 6), np.uint8),
        "y": source.integers(-128, 127, (6, 3), np.int8),
        "xz": np.uint8(130),
        "yz": np.array([1, -5, 7], np.int8),
    }
    agrees_with_onnxruntime(one_node("MatMulInteger", inputs, fixed=["y", "yz"]))


def test_integer_products_stay_exact_at_full_range(one_node: Nodes) -> None:
    inputs = {"x": np.full((1, 4096), 255, np.uint8), "y": np.full((4096, 1), 255, np.uint8)}
    (y,) = one_node("MatMulInteger", inputs).evaluated()
    assert y.dtype == np.int32
    assert y.item() == 4096 * 255 * 255


@pytest.mark.parametrize(
    ("attrs", "scale", "said"),
    [
        ({"axis": 0}, np.ones(5, np.float32), "does not fit the axis"),
        ({"axis": 1, "block_size": -1}, np.ones((2, 3), np.float32), "block_size"),
        ({"axis": 1, "block_size": 2}, np.ones((2, 9), np.float32), "blocks"),
        ({"output_dtype": 999}, np.ones((), np.float32), "element type"),
    ],
)
def test_scales_that_do_not_fit_are_refused(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], scale: Any, said: str
) -> None:
    inputs = {"x": numbers(2, 5), "s": scale}
    with pytest.raises(CompileError, match=said):
        one_node("QuantizeLinear", inputs, 1, 21, fixed=["s"], attrs=attrs).module()


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf, -0.1])
def test_a_scale_that_nothing_can_be_rounded_to_is_refused(one_node: Nodes, scale: float) -> None:
    inputs = {"x": np.ones(3, np.float32), "s": np.float32(scale), "z": np.int8(1)}
    with pytest.raises(CompileError, match=r"E0310.*\n.*(\n.*)*takes the scale 1") as caught:
        one_node("QuantizeLinear", inputs, 1, 21, fixed=["s", "z"]).evaluated()
    assert f"{scale:g} at 0" in str(caught.value)


def test_codes_are_worth_something_of_either_sign(one_node: Nodes) -> None:
    inputs = {"x": np.array([[1, 2], [3, 4]], np.int8), "s": np.array([-0.5, 2], np.float32)}
    node = one_node("DequantizeLinear", inputs, 1, 21, fixed=["s"], attrs={"axis": 0})
    np.testing.assert_array_equal(node.evaluated()[0], np.array([[-0.5, -1], [6, 8]], np.float32))
    inputs["s"] = np.array([1, 0], np.float32)
    with pytest.raises(CompileError, match=r"1 of 2: 0 at 1"):
        one_node("DequantizeLinear", inputs, 1, 21, fixed=["s"], attrs={"axis": 0}).evaluated()

"""Normalisations and softmax across operator-set versions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


@pytest.mark.parametrize("open_dims", [False, True])
def test_batch_normalisation_agrees_and_becomes_one_product_and_one_sum(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, open_dims: bool
) -> None:
    inputs = {
        "x": numbers(2, 5, 4, 3),
        "scale": numbers(5),
        "bias": numbers(5),
        "mean": numbers(5),
        "var": np.abs(numbers(5)),
    }
    fixed = ["scale", "bias", "mean", "var"]
    node = one_node("BatchNormalization", inputs, fixed=fixed, open_dims=open_dims)
    agrees_with_onnxruntime(node)
    assert node.operators().count("nn.map") == 2


def test_training_mode_moves_the_running_statistics(one_node: Nodes, numbers: Numbers) -> None:
    inputs = {n: numbers(3) for n in ("scale", "bias", "mean")}
    x, var = numbers(4, 3, 5), np.abs(numbers(3))
    attrs = {"training_mode": 1, "momentum": 0.75}
    node = one_node("BatchNormalization", {"x": x, **inputs, "var": var}, outputs=3, attrs=attrs)
    y, mean, spread = node.evaluated()
    centre, now = x.mean((0, 2)), x.var((0, 2))
    np.testing.assert_allclose(mean, 0.75 * inputs["mean"] + 0.25 * centre, rtol=1e-5)
    np.testing.assert_allclose(spread, 0.75 * var + 0.25 * now, rtol=1e-5)
    normal = (x - centre[:, None]) / np.sqrt(now[:, None] + 1e-5)
    want = normal * inputs["scale"][:, None] + inputs["bias"][:, None]
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalisation_agrees_with_its_statistics(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, axis: int | None
) -> None:
    shape = (3, 4, 5)[axis:]
    inputs = {"x": numbers(3, 4, 5), "scale": numbers(*shape), "bias": numbers(*shape)}
    attrs = {"axis": axis}
    node = one_node(
        "LayerNormalization",
        inputs,
        outputs=3,
        fixed=["scale", "bias"],
        open_dims=True,
        attrs=attrs,
    )
    agrees_with_onnxruntime(node)
    assert "nn.layer_norm" in node.operators()


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalisation_has_parameters_per_group_then_per_channel(
    one_node: Nodes, numbers: Numbers, opset: int
) -> None:
    x, count = numbers(2, 6, 3, 4), 2 if opset < 21 else 6
    scale, bias = numbers(count), numbers(count)
    attrs = {"num_groups": 2}
    inputs = {"x": x, "scale": scale, "bias": bias}
    node = one_node("GroupNormalization", inputs, opset=opset, attrs=attrs)
    groups = x.reshape(2, 2, -1)
    normal = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(
        groups.var(-1, keepdims=True) + 1e-5
    )
    wide = [np.repeat(p, 6 // count)[:, None, None] for p in (scale, bias)]
    want = normal.reshape(x.shape) * wide[0] + wide[1]
    np.testing.assert_allclose(node.evaluated()[0], want, rtol=1e-4, atol=1e-5)


def test_instance_normalisation_agrees(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    inputs = {"x": numbers(2, 3, 4, 5), "scale": numbers(3), "bias": numbers(3)}
    agrees_with_onnxruntime(one_node("InstanceNormalization", inputs))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2, None])
def test_softmax_is_over_all_axes_from_axis_on_before_opset_13(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    op: str,
    opset: int,
    axis: int | None,
) -> None:
    attrs = {} if axis is None else {"axis": axis}
    node = one_node(op, {"x": numbers(3, 4, 5)}, opset=opset, open_dims=True, attrs=attrs)
    agrees_with_onnxruntime(node)


def test_a_line_of_zeros_stays_zero_under_lp_normalisation(one_node: Nodes) -> None:
    x = np.array([[0, 0], [3, 4]], np.float32)
    for p, want in ((1, [3 / 7, 4 / 7]), (2, [0.6, 0.8])):
        (y,) = one_node("LpNormalization", {"x": x}, attrs={"p": p}).evaluated()
        np.testing.assert_allclose(y, [[0, 0], want], rtol=1e-6)


def test_an_axis_out_of_range_is_refused(one_node: Nodes, numbers: Numbers) -> None:
    with pytest.raises(CompileError) as caught:
        one_node("Softmax", {"x": numbers(2, 3)}, attrs={"axis": 2}).module()
    assert caught.value.code == "E0202"
    assert "the_node" in str(caught.value)

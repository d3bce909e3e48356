"""Resize in its versions, grid sampling."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

# With aligned corners ONNX means the size before it is rounded down, ONNX Runtime the one after.
CASES = [
    *((c, s) for c in ("half_pixel", "asymmetric", "pytorch_half_pixel") for s in (0.7, 1.7, 2.0)),
    ("align_corners", 2.0),
]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("coordinate", "scale"), CASES)
def test_scales_agree_in_every_mode(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    mode: str,
    coordinate: str,
    scale: float,
) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    inputs = {"x": numbers(1, 2, 5, 10), "roi": None, "scales": scales}
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinate, "nearest_mode": "floor"}
    agrees_with_onnxruntime(one_node("Resize", inputs, 1, 19, fixed=["scales"], attrs=attrs))


@pytest.mark.parametrize("scale", [2.0, 0.5, 1.5])
def test_open_sizes_grow_with_the_input(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, scale: float
) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    inputs = {"x": numbers(1, 2, 5, 10), "roi": None, "scales": scales}
    node = one_node(
        "Resize", inputs, 1, 19, fixed=["scales"], open_dims=True, attrs={"mode": "linear"}
    )
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("op", ["Upsample", "Resize"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_older_operators_keep_the_origin(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, op: str, mode: str
) -> None:
    inputs = {"x": numbers(1, 2, 3, 4), "scales": np.array([1, 1, 2, 3], np.float32)}
    opset = 9 if op == "Upsample" else 10
    agrees_with_onnxruntime(one_node(op, inputs, 1, opset, fixed=["scales"], attrs={"mode": mode}))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sampling_agrees_outside_too(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, padding: str, mode: str
) -> None:
    inputs = {"x": numbers(2, 3, 5, 6), "grid": numbers(2, 4, 3, 2)}
    attrs = {"mode": mode, "padding_mode": padding}
    agrees_with_onnxruntime(
        one_node("GridSample", inputs, 1, 16, open_dims=True, attrs=attrs), atol=1e-4
    )


@pytest.mark.parametrize(
    ("attrs", "scales", "said"),
    [
        ({"mode": "spline"}, [1, 1, 2, 2], "mode"),
        ({}, [1, 1, 0, 2], "scales"),
        ({}, [1, 1, -1, 2], "scales"),
        ({}, [1, 1, float("nan"), 2], "scales"),
        ({}, [1, 2], "one value for each axis"),
        ({"axes": [2, 2]}, [2, 2], "axes"),
    ],
)
def test_attributes_out_of_range_are_refused(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], scales: list[float], said: str
) -> None:
    inputs = {"x": numbers(1, 1, 2, 2), "roi": None, "scales": np.array(scales, np.float32)}
    with pytest.raises(CompileError, match=said) as caught:
        one_node("Resize", inputs, 1, 19, fixed=["scales"], attrs=attrs).module()
    assert caught.value.code == "E0310"

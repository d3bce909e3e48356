"""Resize, grid sample and region align agree with ONNX's reference."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tapeout.ir.expr import as_expr
from tapeout.ir.ops.resample import COORDINATES, ROUNDINGS

SCALES = [(1.0, 1.0, 2.3, 0.6), (1.0, 1.0, 0.4, 1.7)]
PLAIN = [c for c in COORDINATES if c != "tf_crop_and_resize"]


def resized(apply: Any, onnx_node: Any, x: Any, scales: Any, **attrs: Any) -> tuple[Any, Any]:
    """Our result and ONNX's for the same attributes, which have ONNX's names."""
    roi = attrs.pop("roi", None)
    (want,) = onnx_node(
        "Resize",
        x,
        roi,
        np.array(scales, np.float32),
        coordinate_transformation_mode=attrs["coordinate"],
        mode=attrs["mode"],
        nearest_mode=attrs.get("nearest", "round_prefer_floor"),
        exclude_outside=int(attrs.get("exclude_outside", False)),
        antialias=int(attrs.get("antialias", False)),
        extrapolation_value=attrs.get("extrapolation", 0.0),
    )
    sizes = tuple(map(as_expr, want.shape))
    exact = tuple(float(np.float32(s)) for s in scales)
    crop = None if roi is None else tuple(map(float, roi))
    return apply("nn.resize", x, sizes=sizes, scales=exact, roi=crop, **attrs), want


@pytest.mark.parametrize(("coordinate", "nearest"), [*product(PLAIN, ROUNDINGS)])
def test_nearest_resize_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, coordinate: str, nearest: str
) -> None:
    for scales in SCALES:
        attrs = {"coordinate": coordinate, "nearest": nearest, "mode": "nearest"}
        close(*resized(apply, onnx_node, normal(1, 2, 5, 6), scales, **attrs))


@pytest.mark.parametrize(("coordinate", "mode"), [*product(PLAIN, ["linear", "cubic"])])
@pytest.mark.parametrize("exclude_outside", [False, True])
@pytest.mark.parametrize("antialias", [False, True])
def test_smooth_resize_agrees_with_onnx(
    apply: Any,
    onnx_node: Any,
    normal: Any,
    close: Any,
    coordinate: str,
    mode: str,
    exclude_outside: bool,
    antialias: bool,
) -> None:
    attrs = {"exclude_outside": exclude_outside, "antialias": antialias}
    for scales in SCALES:
        x = normal(1, 1, 5, 6)
        close(
            *resized(apply, onnx_node, x, scales, coordinate=coordinate, mode=mode, **attrs), 2e-5
        )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_cropping_resize_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, mode: str
) -> None:
    roi = np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.1], np.float32)
    close(
        *resized(
            apply,
            onnx_node,
            normal(1, 1, 5, 6),
            (1.0, 1.0, 1.4, 0.9),
            roi=roi,
            mode=mode,
            coordinate="tf_crop_and_resize",
            extrapolation=7.5,
        ),
        2e-5,
    )


def test_without_scales_the_sizes_decide(
    apply: Any, onnx_node: Any, normal: Any, close: Any
) -> None:
    x = normal(1, 2, 4, 5)
    sizes = (1, 2, 7, 3)
    (want,) = onnx_node("Resize", x, None, None, np.array(sizes), mode="linear")
    close(apply("nn.resize", x, sizes=tuple(map(as_expr, sizes)), mode="linear"), want)


def test_integers_are_saturated_after_a_cubic(apply: Any) -> None:
    x = np.array([[[[0, 0, 255, 255]]]], np.uint8)
    y = apply("nn.resize", x, sizes=tuple(map(as_expr, (1, 1, 1, 12))), mode="cubic")
    assert y.dtype == np.uint8
    assert (np.diff(y.reshape(-1).astype(int)) >= 0).all()


PADDINGS = ["zeros", "border", "reflection"]
# Cubic with border: ONNX's reference clamps the place; torch and ONNX Runtime clamp each tap.
SAMPLED = [p for p in product(["nearest", "linear", "cubic"], PADDINGS) if p != ("cubic", "border")]


@pytest.mark.parametrize(("mode", "padding"), SAMPLED)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("spatial", [(4, 5), (3, 4, 2)])
def test_grid_sample_agrees_with_onnx(
    apply: Any,
    onnx_node: Any,
    normal: Any,
    close: Any,
    mode: str,
    padding: str,
    align_corners: bool,
    spatial: tuple[int, ...],
) -> None:
    x = normal(2, 2, *spatial)
    grid = normal(2, *([3] * len(spatial)), len(spatial)) * 1.2
    (want,) = onnx_node(
        "GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=int(align_corners)
    )
    result = apply(
        "nn.grid_sample", x, grid, mode=mode, padding=padding, align_corners=align_corners
    )
    close(result, want, 2e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_cubic_grid_sample_agrees_with_torch(
    apply: Any, normal: Any, close: Any, padding: str, align_corners: bool
) -> None:
    x, grid = normal(2, 2, 4, 5), normal(2, 3, 3, 2) * 1.5
    want = functional.grid_sample(
        torch.tensor(x),
        torch.tensor(grid),
        mode="bicubic",
        padding_mode=padding,
        align_corners=align_corners,
    )
    result = apply(
        "nn.grid_sample", x, grid, mode="cubic", padding=padding, align_corners=align_corners
    )
    close(result, want.numpy(), 2e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, mode: str, half_pixel: bool, ratio: int
) -> None:
    x = np.abs(normal(2, 3, 8, 9))
    rois = np.array([[0, 0, 7, 7], [2, 1, 12, 6], [3, 3, 3.2, 3.4], [-4, -2, 3, 2]], np.float32)
    batch = np.array([0, 1, 1, 0])
    (want,) = onnx_node(
        "RoiAlign",
        x,
        rois,
        batch,
        mode=mode,
        output_height=3,
        output_width=2,
        sampling_ratio=ratio,
        spatial_scale=0.7,
        coordinate_transformation_mode="half_pixel" if half_pixel else "output_half_pixel",
    )
    result = apply(
        "nn.roi_align",
        x,
        rois,
        batch,
        mode=mode,
        sizes=(3, 2),
        sampling_ratio=ratio,
        scale=0.7,
        half_pixel=half_pixel,
    )
    close(result, want)

"""Convolutions and pooling agree with torch and with ONNX's reference."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tapeout.ir.expr import as_expr

CONVOLUTIONS = [
    ((2, 6, 9, 8), (4, 3, 3, 2), (2, 1), (1, 2), (1, 2), 2),
    ((1, 8, 7, 7), (8, 1, 3, 3), (1, 1), (1, 1), (1, 1), 8),
    ((1, 3, 10, 10), (5, 3, 5, 5), (3, 2), (2, 0), (1, 1), 1),
    ((2, 4, 6), (6, 2, 3), (2,), (1,), (1,), 2),
    ((1, 2, 4, 5, 6), (3, 2, 2, 2, 2), (1, 2, 1), (0, 1, 1), (1, 1, 2), 1),
]


@pytest.mark.parametrize(("x", "w", "strides", "pads", "dilations", "groups"), CONVOLUTIONS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution_agrees_with_torch(
    apply: Any,
    normal: Any,
    close: Any,
    x: Any,
    w: Any,
    strides: Any,
    pads: Any,
    dilations: Any,
    groups: int,
    channels_last: bool,
) -> None:
    data, weights, bias = normal(*x), normal(*w), normal(w[0])
    torch_conv = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[len(x)]
    want = torch_conv(
        torch.tensor(data),
        torch.tensor(weights),
        torch.tensor(bias),
        strides,
        pads,
        dilations,
        groups,
    ).numpy()
    given = np.moveaxis(data, 1, -1) if channels_last else data
    result = apply(
        "nn.conv",
        given,
        weights,
        bias,
        strides=strides,
        pads=pads * 2,
        dilations=dilations,
        groups=groups,
        channels_last=channels_last,
    )
    close(np.moveaxis(result, -1, 1) if channels_last else result, want, 1e-4)


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilations", "extra", "groups"),
    [
        ((2, 4, 5, 4), (4, 3, 3, 2), (2, 1), (1, 0), (1, 2), (1, 0), 2),
        ((1, 3, 4), (3, 2, 4), (3,), (0,), (1,), (2,), 1),
        ((1, 6, 3, 3), (6, 1, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 6),
        ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), (2, 1, 2), (0, 1, 0), (1, 1, 1), (1, 0, 0), 1),
    ],
)
def test_transposed_convolution_agrees_with_torch(
    apply: Any,
    normal: Any,
    close: Any,
    x: Any,
    w: Any,
    strides: Any,
    pads: Any,
    dilations: Any,
    extra: Any,
    groups: int,
) -> None:
    data, weights, bias = normal(*x), normal(*w), normal(w[1] * groups)
    turn = {
        3: functional.conv_transpose1d,
        4: functional.conv_transpose2d,
        5: functional.conv_transpose3d,
    }
    want = turn[len(x)](
        torch.tensor(data),
        torch.tensor(weights),
        torch.tensor(bias),
        strides,
        pads,
        extra,
        groups,
        dilations,
    ).numpy()
    result = apply(
        "nn.conv_transpose",
        data,
        weights,
        bias,
        strides=strides,
        pads=pads * 2,
        dilations=dilations,
        output_padding=extra,
        groups=groups,
    )
    close(result, want, 1e-4)


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("fn", ["max", "mean"])
def test_pooling_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, fn: str, ceil_mode: int
) -> None:
    x = normal(2, 3, 8, 9)
    windows = {"kernel": (3, 2), "strides": (2, 3), "pads": (1, 0, 1, 1), "dilations": (1, 2)}
    (want,) = onnx_node(
        "MaxPool" if fn == "max" else "AveragePool",
        x,
        kernel_shape=(3, 2),
        strides=(2, 3),
        pads=(1, 0, 1, 1),
        dilations=(1, 2),
        ceil_mode=ceil_mode,
    )
    sizes = tuple(map(as_expr, want.shape[2:]))
    close(apply("nn.pool", x, fn=fn, sizes=sizes, **windows), want)
    last = np.moveaxis(x, 1, -1)
    turned = apply("nn.pool", last, fn=fn, sizes=sizes, channels_last=True, **windows)
    close(np.moveaxis(turned, -1, 1), want)


@pytest.mark.parametrize("column_major", [False, True])
def test_indices_of_maxima_agree_with_onnx(
    apply: Any, onnx_node: Any, close: Any, column_major: bool
) -> None:
    # Few values: the first of equals must be chosen.
    x = np.random.default_rng(3).integers(0, 4, (2, 3, 6, 5)).astype(np.float32)
    want, places = onnx_node(
        "MaxPool",
        x,
        outputs=2,
        kernel_shape=(2, 2),
        strides=(2, 2),
        storage_order=int(column_major),
    )
    y, indices = apply(
        "nn.max_pool_indices",
        x,
        kernel=(2, 2),
        strides=(2, 2),
        pads=(0,) * 4,
        dilations=(1, 1),
        sizes=(as_expr(3), as_expr(2)),
        column_major=column_major,
    )
    close(y, want)
    np.testing.assert_array_equal(indices, places)


def test_a_window_of_minus_infinity_still_has_an_index(apply: Any) -> None:
    x = np.full((1, 1, 2, 2), -np.inf, np.float32)
    y, indices = apply(
        "nn.max_pool_indices",
        x,
        kernel=(2, 2),
        strides=(1, 1),
        pads=(1, 1, 0, 0),
        dilations=(1, 1),
        sizes=(as_expr(2), as_expr(2)),
    )
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(indices, [[[[0, 0], [0, 0]]]])


def test_deformable_convolution_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any
) -> None:
    x, w, offset = normal(1, 4, 5, 6), normal(2, 2, 2, 3), normal(1, 24, 6, 4)
    bias, mask = normal(2), normal(1, 12, 6, 4)
    (want,) = onnx_node(
        "DeformConv",
        x,
        w,
        offset,
        bias,
        mask,
        group=2,
        offset_group=2,
        pads=(1, 0, 1, 0),
        kernel_shape=(2, 3),
        strides=(1, 1),
        opset=22,
    )
    result = apply(
        "nn.deform_conv",
        x,
        w,
        offset,
        bias,
        mask,
        strides=(1, 1),
        pads=(1, 0, 1, 0),
        dilations=(1, 1),
        groups=2,
        offset_groups=2,
    )
    close(result, want, 1e-4)

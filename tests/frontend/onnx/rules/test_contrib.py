"""Operators of ONNX Runtime's own domain, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

DOMAIN = "com.microsoft"


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("Gelu", [(2, 3, 8)], {}),
        ("BiasGelu", [(2, 3, 8), (8,)], {}),
        ("FastGelu", [(2, 3, 8)], {}),
        ("FastGelu", [(2, 3, 8), (8,)], {}),
        ("QuickGelu", [(2, 3, 8)], {"alpha": 1.5}),
        ("FusedMatMul", [(2, 4, 3), (2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
        ("SkipLayerNormalization", [(2, 3, 8), (2, 3, 8), (8,), (8,), (8,)], {"epsilon": 0.1}),
        ("SkipSimplifiedLayerNormalization", [(2, 3, 8), (2, 3, 8), (8,)], {"epsilon": 0.1}),
    ],
)
def test_operators_agree(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    op: str,
    shapes: list[tuple[int, ...]],
    attrs: dict[str, Any],
) -> None:
    inputs = {f"x{i}": numbers(*shape) for i, shape in enumerate(shapes)}
    node = one_node(op, inputs, domain=DOMAIN, attrs=attrs)
    # The form with tanh is approximated further by ONNX Runtime.
    agrees_with_onnxruntime(node, atol=2e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_multi_head_attention_agrees(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, masked: bool, biased: bool
) -> None:
    inputs = {
        "q": numbers(2, 3, 8),
        "k": numbers(2, 5, 8),
        "v": numbers(2, 5, 8),
        "bias": numbers(24) if biased else None,
        "mask": np.array([[1] * 5, [1, 1, 1, 0, 0]], np.int32) if masked else None,
        "scores": numbers(2, 2, 3, 5),
    }
    node = one_node("MultiHeadAttention", inputs, domain=DOMAIN, attrs={"num_heads": 2})
    agrees_with_onnxruntime(node)


def test_root_mean_square_norm_agrees(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    inputs = {"x": numbers(2, 3, 8), "scale": numbers(8)}
    node = one_node("SimplifiedLayerNormalization", inputs, attrs={"epsilon": 0.1})
    agrees_with_onnxruntime(node)

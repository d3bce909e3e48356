"""Attention, rotary embedding and norms agree with torch and with ONNX's reference."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tapeout.ir.expr import as_expr


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["none", "float", "bool"])
@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_attention_agrees_with_onnx(
    apply: Any,
    onnx_node: Any,
    normal: Any,
    close: Any,
    causal: bool,
    mask: str,
    groups: int,
    softcap: float,
) -> None:
    q, k, v = normal(2, 4, 3, 8), normal(2, groups, 5, 8), normal(2, groups, 5, 6)
    kept = normal(3, 5) > 0.4
    kept[1] = False  # A query that sees no key.
    bias = {"none": None, "float": normal(2, 1, 3, 5), "bool": kept}[mask]
    (want,) = onnx_node(
        "Attention", q, k, v, bias, scale=0.3, is_causal=int(causal), softcap=softcap, opset=24
    )
    close(apply("nn.attention", q, k, v, bias, scale=0.3, causal=causal, softcap=softcap), want)


def test_causal_attention_is_aligned_as_in_torch(apply: Any, normal: Any, close: Any) -> None:
    q, k, v = normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4)
    want = functional.scaled_dot_product_attention(
        torch.tensor(q), torch.tensor(k), torch.tensor(v), is_causal=True, scale=0.5
    )
    close(apply("nn.attention", q, k, v, None, scale=0.5, causal=True), want.numpy())


def test_a_past_moves_the_causal_diagonal(apply: Any, normal: Any, close: Any) -> None:
    q, k, v = normal(1, 2, 5, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4)
    whole = apply("nn.attention", q, k, v, None, scale=0.5, causal=True)
    tail = apply(
        "nn.attention", q[:, :, 3:], k, v, None, scale=0.5, causal=True, causal_offset=(as_expr(3),)
    )
    close(tail, whole[:, :, 3:])


def test_a_query_without_keys_gives_zero(apply: Any, normal: Any) -> None:
    q, k = normal(1, 1, 2, 4), normal(1, 1, 3, 4)
    hidden = np.array([[False] * 3, [True] * 3])
    y = apply("nn.attention", q, k, k, hidden, scale=0.5)
    assert (y[0, 0, 0] == 0).all()
    assert np.isfinite(y).all()
    assert (y[0, 0, 1] != 0).all()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [None, 4])
def test_rotary_agrees_with_onnx(
    apply: Any, onnx_node: Any, normal: Any, close: Any, interleaved: bool, rotary_dim: int | None
) -> None:
    x, half = normal(2, 3, 4, 8), (rotary_dim or 8) // 2
    cos, sin = normal(2, 4, half), normal(2, 4, half)
    (want,) = onnx_node(
        "RotaryEmbedding",
        x,
        cos,
        sin,
        interleaved=int(interleaved),
        rotary_embedding_dim=rotary_dim or 0,
    )
    result = apply(
        "nn.rotary", x, cos[:, None], sin[:, None], interleaved=interleaved, rotary_dim=rotary_dim
    )
    close(result, want)


@pytest.mark.parametrize("axis", [-1, 1])
def test_norms_agree_with_torch(apply: Any, normal: Any, close: Any, axis: int) -> None:
    x = normal(2, 3, 8) * 3 + 1
    shape = x.shape[axis:]
    scale, bias = normal(*shape), normal(*shape)
    x_t, scale_t, bias_t = torch.tensor(x), torch.tensor(scale), torch.tensor(bias)
    want = functional.layer_norm(x_t, shape, scale_t, bias_t, 1e-5)
    close(apply("nn.layer_norm", x, scale, bias, axis=axis, epsilon=1e-5), want.numpy())
    want = functional.rms_norm(x_t, shape, scale_t, 1e-6)
    close(apply("nn.rms_norm", x, scale, axis=axis, epsilon=1e-6), want.numpy())


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_agrees_with_torch_at_any_magnitude(
    apply: Any, normal: Any, close: Any, axis: int
) -> None:
    x = normal(3, 4, 5) * 300
    close(apply("nn.softmax", x, axis=axis), torch.softmax(torch.tensor(x), axis).numpy())

"""Attention with masks by place, caches and grouped heads; what stands around it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


def _expected(q: Array, k: Array, v: Array, mask: Array, scale: float) -> Array:
    """The definition, row by row, for a boolean mask."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, 1) for x in (k, v))
    scores = np.where(mask, np.einsum("bhsd,bhtd->bhst", q, k) * scale, -np.inf)
    high = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(high), 0, high))
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bhst,bhte->bhse", weights / np.where(total == 0, 1, total), v)


@pytest.mark.parametrize("open_dims", [False, True])
def test_causal_attention_with_a_cache_stays_one_operator(
    one_node: Nodes, numbers: Numbers, open_dims: bool
) -> None:
    q, k, v = numbers(2, 6, 4, 8), numbers(2, 2, 4, 8), numbers(2, 2, 4, 8)
    past_k, past_v = numbers(2, 2, 3, 8), numbers(2, 2, 3, 8)
    inputs = {"q": q, "k": k, "v": v, "mask": None, "pk": past_k, "pv": past_v}
    attrs = {"is_causal": 1, "scale": 0.25}
    node = one_node("Attention", inputs, 3, 24, open_dims=open_dims, attrs=attrs)
    y, present_k, _ = node.evaluated()
    keys, values = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
    mask = np.arange(7)[None] <= np.arange(4)[:, None] + 3
    np.testing.assert_allclose(y, _expected(q, keys, values, mask, 0.25), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(present_k, keys)
    assert node.operators().count("nn.attention") == 1
    assert "nn.softmax" not in node.operators()


@pytest.mark.parametrize(("left", "right"), [(2, -1), (-1, 1), (1, 2), (0, 0)])
def test_a_window_hides_keys_on_its_open_sides_only(
    one_node: Nodes, numbers: Numbers, left: int, right: int
) -> None:
    q = k = v = numbers(1, 2, 6, 4)
    inputs = {"q": q, "k": k, "v": v}
    attrs = {"left_window_size": left, "right_window_size": right}
    (y,) = one_node("Attention", inputs, 1, 25, attrs=attrs).evaluated()
    away = np.arange(6)[:, None] - np.arange(6)[None]
    mask = (left < 0) | (away <= left)
    mask &= (right < 0) | (-away <= right)
    np.testing.assert_allclose(y, _expected(q, k, v, mask, 0.5), rtol=1e-4, atol=1e-5)


def test_lengths_hide_padding_and_shift_the_causal_frontier(
    one_node: Nodes, numbers: Numbers
) -> None:
    q, k, v = numbers(3, 2, 2, 4), numbers(3, 2, 6, 4), numbers(3, 2, 6, 4)
    lengths = np.array([2, 6, 1])
    inputs = {"q": q, "k": k, "v": v, "m": None, "a": None, "b": None, "n": lengths}
    (y,) = one_node("Attention", inputs, 1, 24, attrs={"is_causal": 1}).evaluated()
    place = np.arange(2)[None, :, None] + (lengths - 2)[:, None, None]
    mask = np.arange(6)[None, None] <= place
    mask &= np.arange(6)[None, None] < lengths[:, None, None]
    np.testing.assert_allclose(y, _expected(q, k, v, mask[:, None], 0.5), rtol=1e-4, atol=1e-5)
    assert not y[2, :, 0].any(), "a query that sees no key gives zero"


def test_packed_heads_agree_with_separate_ones(one_node: Nodes, numbers: Numbers) -> None:
    q, k, v = numbers(2, 4, 3, 8), numbers(2, 2, 5, 8), numbers(2, 2, 5, 6)
    (want,) = one_node("Attention", {"q": q, "k": k, "v": v}, opset=23).evaluated()
    packed = {
        n: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(2, x.shape[2], -1)
        for n, x in (("q", q), ("k", k), ("v", v))
    }
    attrs = {"q_num_heads": 4, "kv_num_heads": 2}
    (have,) = one_node("Attention", packed, opset=23, attrs=attrs).evaluated()
    np.testing.assert_allclose(
        have, want.transpose(0, 2, 1, 3).reshape(2, 3, -1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"q_num_heads": 0, "kv_num_heads": 1}, "heads"),
        ({"q_num_heads": 3, "kv_num_heads": 2}, "heads"),
        ({"q_num_heads": 2, "kv_num_heads": 2, "left_window_size": -2}, "window"),
    ],
)
def test_attributes_out_of_range_are_refused(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], said: str
) -> None:
    inputs = {"q": numbers(1, 2, 4), "k": numbers(1, 2, 4), "v": numbers(1, 2, 4)}
    with pytest.raises(CompileError, match=said) as caught:
        one_node("Attention", inputs, opset=25, attrs=attrs).module()
    assert caught.value.code == "E0310"


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotation_by_zero_angles_changes_nothing(
    one_node: Nodes, numbers: Numbers, interleaved: int
) -> None:
    x = numbers(2, 3, 4, 8)
    angles = np.zeros((10, 4), np.float32)
    inputs = {"x": x, "cos": angles + 1, "sin": angles, "places": np.ones((2, 4), np.int64)}
    node = one_node("RotaryEmbedding", inputs, opset=23, attrs={"interleaved": interleaved})
    np.testing.assert_array_equal(node.evaluated()[0], x)


def test_a_circular_cache_wraps_around(one_node: Nodes) -> None:
    cache = np.zeros((2, 4, 1), np.float32)
    update = np.array([[[1], [2]], [[3], [4]]], np.float32)
    inputs = {"cache": cache, "update": update, "at": np.array([3, 1])}
    (y,) = one_node("TensorScatter", inputs, opset=24, attrs={"mode": "circular"}).evaluated()
    np.testing.assert_array_equal(y[..., 0], [[2, 0, 0, 1], [0, 3, 4, 0]])

"""Attention and rotary embedding as ONNX Runtime's GenAI writes them, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

DOMAIN = "com.microsoft"
HEADS, GROUPS, DEPTH, PAST, TOKENS = 4, 2, 16, 5, 3
ATTRS = {"num_heads": HEADS, "kv_num_heads": GROUPS}


def _inputs(numbers: Numbers, *, batch: int = 1, packed: bool, past: int = PAST) -> dict[str, Any]:
    widths = (HEADS, GROUPS, GROUPS)
    parts = [numbers(batch, TOKENS, heads * DEPTH) for heads in widths]
    angles = numbers(32, DEPTH // 2)
    return {
        "q": np.concatenate(parts, 2) if packed else parts[0],
        "k": None if packed else parts[1],
        "v": None if packed else parts[2],
        "past_k": numbers(batch, GROUPS, past, DEPTH),
        "past_v": numbers(batch, GROUPS, past, DEPTH),
        "last": np.full((batch,), past + TOKENS - 1, np.int32),
        "total": np.asarray(past + TOKENS, np.int32),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }


@pytest.mark.parametrize(
    ("packed", "attrs"),
    [
        (False, {}),
        (True, {"do_rotary": 1}),
        (False, {"do_rotary": 1, "rotary_interleaved": 1, "scale": 0.2}),
        (True, {"local_window_size": 4}),
        (True, {"local_window_size": 1}),
        (False, {"softcap": 2.0}),
    ],
)
def test_group_query_attention_agrees(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    packed: bool,
    attrs: dict[str, Any],
) -> None:
    node = one_node(
        "GroupQueryAttention",
        _inputs(numbers, packed=packed),
        domain=DOMAIN,
        attrs=ATTRS | attrs,
        outputs=3,
    )
    agrees_with_onnxruntime(node)


def test_a_batch_that_may_be_padded_is_refused(one_node: Nodes, numbers: Numbers) -> None:
    inputs = _inputs(numbers, batch=2, packed=True)
    node = one_node("GroupQueryAttention", inputs, domain=DOMAIN, attrs=ATTRS, outputs=3)
    with pytest.raises(CompileError, match="batch") as caught:
        node.module()
    assert caught.value.code == "E0402"


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("first", [False, True])
def test_rotary_embedding_agrees(
    one_node: Nodes,
    agrees_with_onnxruntime: Check,
    numbers: Numbers,
    interleaved: int,
    first: bool,
) -> None:
    angles = numbers(32, DEPTH // 2)
    inputs = {
        "x": numbers(2, TOKENS, HEADS * DEPTH),
        "positions": np.array([7]) if first else np.array([[0, 1, 2], [9, 3, 30]]),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    attrs = {"interleaved": interleaved}
    agrees_with_onnxruntime(one_node("RotaryEmbedding", inputs, domain=DOMAIN, attrs=attrs))

"""Losses and optimiser steps."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

PREVIEW = "ai.onnx.preview.training"


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignored", [None, 2, -100])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_agrees_with_torch(
    one_node: Nodes, numbers: Numbers, reduction: str, ignored: int | None, weighted: bool
) -> None:
    # The stubs of torch leave most types open.
    torch: Any = importlib.import_module("torch")
    x, weight = numbers(4, 5, 3), np.abs(numbers(5))
    target = np.random.default_rng(1).integers(0, 5, (4, 3))
    if ignored is not None:
        target[0, 1] = ignored
    inputs = {"x": x, "t": target, "w": weight if weighted else None}
    attrs = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
    have, logarithms = one_node("SoftmaxCrossEntropyLoss", inputs, 2, attrs=attrs).evaluated()
    want = torch.nn.functional.cross_entropy(
        torch.from_numpy(x),
        torch.from_numpy(target),
        torch.from_numpy(weight) if weighted else None,
        ignore_index=-999 if ignored is None else ignored,
        reduction=reduction,
    )
    np.testing.assert_allclose(have, want.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.exp(logarithms).sum(1), 1, rtol=1e-5)


def test_an_unknown_reduction_is_refused(one_node: Nodes, numbers: Numbers) -> None:
    inputs = {"x": numbers(2, 3), "t": np.array([0, 1])}
    with pytest.raises(CompileError, match="reduction") as caught:
        one_node("NegativeLogLikelihoodLoss", inputs, attrs={"reduction": "max"}).module()
    assert caught.value.code == "E0310"


def test_operands_of_an_optimiser_are_grouped_by_kind(one_node: Nodes, numbers: Numbers) -> None:
    a, b, ga, gb, va, vb = (numbers(n) for n in (2, 3, 2, 3, 2, 3))
    rate, step = np.float32(0.5), np.int64(3)
    inputs = dict(zip("rtabcdef", (rate, step, a, b, ga, gb, va, vb), strict=True))
    attrs = {"alpha": 0.9, "beta": 0.8, "mode": "standard", "norm_coefficient": 0.0}
    node = one_node("Momentum", inputs, 4, domain=PREVIEW, attrs=attrs)
    new_a, new_b, new_va, new_vb = node.evaluated()
    np.testing.assert_allclose(new_va, 0.9 * va + 0.8 * ga, rtol=1e-5)
    np.testing.assert_allclose(new_vb, 0.9 * vb + 0.8 * gb, rtol=1e-5)
    np.testing.assert_allclose(new_a, a - 0.5 * new_va, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_b, b - 0.5 * new_vb, rtol=1e-5, atol=1e-6)

"""Recurrent layers in all directions, with lengths, layouts and other activations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _inputs(
    op: str, numbers: Numbers, directions: int, *, batch_first: bool = False
) -> dict[str, Array]:
    hidden, gates = 5, GATES[op]
    x = numbers(6, 3, 4)
    state = numbers(directions, 3, hidden)
    inputs = {
        "x": np.swapaxes(x, 0, 1).copy() if batch_first else x,
        "w": numbers(directions, gates * hidden, 4),
        "r": numbers(directions, gates * hidden, hidden),
        "b": numbers(directions, 2 * gates * hidden),
        "lengths": np.array([6, 2, 4], np.int32),
        "h": np.swapaxes(state, 0, 1).copy() if batch_first else state,
    }
    if op == "LSTM":
        cell = numbers(directions, 3, hidden)
        inputs["c"] = np.swapaxes(cell, 0, 1).copy() if batch_first else cell
        inputs["p"] = numbers(directions, 3 * hidden)
    return inputs


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_every_direction_agrees_with_lengths_and_states(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, op: str, direction: str
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    inputs = _inputs(op, numbers, directions)
    attrs = {"hidden_size": 5, "direction": direction}
    outputs = 3 if op == "LSTM" else 2
    node = one_node(op, inputs, outputs, fixed=["w", "r", "b"], attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize("op", GATES)
def test_the_batch_may_come_first(one_node: Nodes, numbers: Numbers, op: str) -> None:
    plain = _inputs(op, numbers, 1)
    turned = {
        n: np.swapaxes(a, 0, 1).copy() if n in ("x", "h", "c") else a for n, a in plain.items()
    }
    want = one_node(op, plain, 2, attrs={"hidden_size": 5}).evaluated()
    have = one_node(op, turned, 2, attrs={"hidden_size": 5, "layout": 1}).evaluated()
    np.testing.assert_array_equal(have[0], want[0].transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(have[1], want[1].transpose(1, 0, 2))


@pytest.mark.parametrize("linear", [0, 1])
def test_gru_agrees_on_both_places_of_the_reset_gate(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, linear: int
) -> None:
    attrs = {"hidden_size": 5, "linear_before_reset": linear, "clip": 0.8}
    node = one_node("GRU", _inputs("GRU", numbers, 1), 2, open_dims=False, attrs=attrs)
    agrees_with_onnxruntime(node)


@pytest.mark.parametrize(
    "activations", [["Relu"], ["HardSigmoid"], ["Softsign"], ["Elu"], ["ScaledTanh"], ["Affine"]]
)
def test_activations_take_their_constants(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers, activations: list[str]
) -> None:
    attrs = {
        "hidden_size": 5,
        "activations": activations,
        "activation_alpha": [0.4],
        "activation_beta": [0.7],
    }
    agrees_with_onnxruntime(one_node("RNN", _inputs("RNN", numbers, 1), 2, attrs=attrs))


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"hidden_size": 4}, "hidden_size"),
        ({"hidden_size": 5, "direction": "sideways"}, "direction"),
        ({"hidden_size": 5, "activations": ["Sigmoid"]}, "activations"),
        ({"hidden_size": 5, "activations": ["Sigmoid", "Tanh", "Swish"]}, "activation"),
        ({"hidden_size": 5, "layout": 2}, "layout"),
        ({"hidden_size": 5, "clip": -1.0}, "clip"),
    ],
)
def test_attributes_out_of_range_are_refused(
    one_node: Nodes, numbers: Numbers, attrs: dict[str, Any], said: str
) -> None:
    with pytest.raises(CompileError, match=said) as caught:
        one_node("LSTM", _inputs("LSTM", numbers, 1), attrs=attrs).module()
    assert caught.value.code == "E0310"

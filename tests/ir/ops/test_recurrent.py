"""Recurrent layers agree with ONNX Runtime, which has all of their options."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
import pytest

Array = np.ndarray[Any, Any]
STEPS, BATCH, WIDTH, H = 5, 3, 4, 2


@pytest.fixture
def runtime_node() -> Callable[..., list[Array]]:
    """``runtime_node(op_type, arrays, outputs, **attributes)``: one node in ONNX Runtime."""

    def run(
        op_type: str, arrays: list[Array | None], outputs: int, **attributes: Any
    ) -> list[Array]:
        given = {f"i{i}": a for i, a in enumerate(arrays) if a is not None}
        names = [f"i{i}" if a is not None else "" for i, a in enumerate(arrays)]
        made = [f"o{i}" for i in range(outputs)]
        node = onnx.helper.make_node(op_type, names, made, **attributes)
        kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in given.items()}
        graph = onnx.helper.make_graph(
            [node],
            "one",
            [onnx.helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in given.items()],
            [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in made],
        )
        opsets = [onnx.helper.make_opsetid("", 14)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        values = cast(Any, session).run(None, given)
        return [np.asarray(v) for v in values]

    return run


OPTIONS = [
    {},
    {"lengths": True},
    {"lengths": True, "reverse": True},
    {"bias": True, "state": True},
    {"bias": True, "state": True, "reverse": True, "clip": 0.4},
]


def operands(normal: Any, gates: int, option: dict[str, Any]) -> list[Array | None]:
    """``x, w, r, b, lengths, h0`` of one direction."""
    return [
        normal(STEPS, BATCH, WIDTH),
        normal(gates * H, WIDTH),
        normal(gates * H, H),
        normal(2 * gates * H) if option.get("bias") else None,
        np.array([5, 2, 3], np.int32) if option.get("lengths") else None,
        normal(BATCH, H) if option.get("state") else None,
    ]


def directed(values: list[Array | None]) -> list[Array | None]:
    """With ONNX's direction axis in front of weights and states."""
    x, w, r, b, lengths, *states = values
    return [
        x,
        *(None if v is None else v[None] for v in (w, r, b)),
        lengths,
        *(None if s is None else s[None] for s in states),
    ]


def attributes(option: dict[str, Any], **more: Any) -> dict[str, Any]:
    """ONNX's attributes for an option."""
    clip = {"clip": option["clip"]} if "clip" in option else {}
    direction = "reverse" if option.get("reverse") else "forward"
    return {"hidden_size": H, "direction": direction, **clip, **more}


def check(results: list[Array], want: list[Array], close: Any) -> None:
    y, *states = want
    close(results[0], y[:, 0])
    for state, expected in zip(results[1:], states, strict=True):
        close(state, expected[0])


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("extra", ["plain", "peephole", "input_forget"])
def test_lstm_agrees_with_onnx_runtime(
    apply: Any, runtime_node: Any, normal: Any, close: Any, option: dict[str, Any], extra: str
) -> None:
    values = operands(normal, 4, option)
    values += [normal(BATCH, H) if option.get("state") else None]
    peephole = normal(3 * H) if extra == "peephole" else None
    coupled = extra == "input_forget"
    onnx_values = [*directed(values), None if peephole is None else peephole[None]]
    want = runtime_node("LSTM", onnx_values, 3, **attributes(option, input_forget=int(coupled)))
    result = apply(
        "nn.lstm",
        *values,
        peephole,
        hidden=H,
        reverse=option.get("reverse", False),
        clip=option.get("clip", 0.0),
        input_forget=coupled,
    )
    check(result, want, close)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("linear", [False, True])
def test_gru_agrees_with_onnx_runtime(
    apply: Any, runtime_node: Any, normal: Any, close: Any, option: dict[str, Any], linear: bool
) -> None:
    values = operands(normal, 3, option)
    more = attributes(option, linear_before_reset=int(linear))
    want = runtime_node("GRU", directed(values), 2, **more)
    result = apply(
        "nn.gru",
        *values,
        hidden=H,
        reverse=option.get("reverse", False),
        clip=option.get("clip", 0.0),
        linear_before_reset=linear,
    )
    check(result, want, close)


@pytest.mark.parametrize("option", OPTIONS)
def test_rnn_agrees_with_onnx_runtime(
    apply: Any, runtime_node: Any, normal: Any, close: Any, option: dict[str, Any]
) -> None:
    values = operands(normal, 1, option)
    want = runtime_node("RNN", directed(values), 2, **attributes(option))
    result = apply(
        "nn.rnn",
        *values,
        hidden=H,
        reverse=option.get("reverse", False),
        clip=option.get("clip", 0.0),
    )
    check(result, want, close)


@pytest.mark.parametrize(
    ("name", "onnx_name", "alpha", "beta"),
    [
        ("relu", "Relu", 0.0, 0.0),
        ("affine", "Affine", 0.7, 0.2),
        ("leaky_relu", "LeakyRelu", 0.2, 0.0),
        ("thresholded_relu", "ThresholdedRelu", 0.3, 0.0),
        ("scaled_tanh", "ScaledTanh", 0.8, 1.3),
        ("hard_sigmoid", "HardSigmoid", 0.3, 0.4),
        ("elu", "Elu", 0.6, 0.0),
        ("softsign", "Softsign", 0.0, 0.0),
        ("softplus", "Softplus", 0.0, 0.0),
        ("sigmoid", "Sigmoid", 0.0, 0.0),
    ],
)
def test_activations_agree_with_onnx_runtime(
    apply: Any,
    runtime_node: Any,
    normal: Any,
    close: Any,
    name: str,
    onnx_name: str,
    alpha: float,
    beta: float,
) -> None:
    values = operands(normal, 1, {})
    values[2] = normal(H, H) * 0.1  # Unbounded activations must not blow up over the steps.
    want = runtime_node(
        "RNN",
        directed(values),
        2,
        activations=[onnx_name],
        activation_alpha=[alpha],
        activation_beta=[beta],
        hidden_size=H,
    )
    result = apply("nn.rnn", *values, hidden=H, activations=(name,), alphas=(alpha,), betas=(beta,))
    check(result, want, close)

"""Fourier transforms against numpy's; windows of open length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]


def _complex(x: Array) -> Array:
    return x[..., 0] + 1j * x[..., 1]


@pytest.mark.parametrize("length", [5, 8, 9, 12])
@pytest.mark.parametrize("inverse", [0, 1])
def test_complex_transforms_agree_when_cut_and_when_padded(
    one_node: Nodes, numbers: Numbers, length: int, inverse: int
) -> None:
    x = numbers(2, 9, 3, 2)
    inputs = {"x": x, "n": np.array(length), "axis": np.array(1)}
    node = one_node("DFT", inputs, fixed=["n", "axis"], attrs={"inverse": inverse})
    want = (np.fft.ifft if inverse else np.fft.fft)(_complex(x), length, axis=1)
    np.testing.assert_allclose(_complex(node.evaluated()[0]), want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_transforms_of_an_open_length_agree(
    one_node: Nodes, numbers: Numbers, parts: int, inverse: int
) -> None:
    x = numbers(2, 9, 3, parts)
    inputs = {"x": x, "n": None, "axis": np.array(1)}
    attrs = {"inverse": inverse}
    node = one_node("DFT", inputs, fixed=["axis"], attrs=attrs)
    signal = _complex(x) if parts == 2 else x[..., 0]
    want = (np.fft.ifft if inverse else np.fft.fft)(signal, axis=1)
    model = node.proto()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "N"
    made = evaluate(import_model(load_model(model)), {"x": x})
    np.testing.assert_allclose(_complex(made["y0"]), want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("length", [6, 7])
def test_half_a_spectrum_returns_to_the_signal(
    one_node: Nodes, numbers: Numbers, length: int
) -> None:
    x = numbers(2, length, 1)
    inputs = {"x": x, "n": np.array(length), "axis": np.array(1)}
    half = one_node("DFT", inputs, fixed=["n", "axis"], attrs={"onesided": 1}).evaluated()[0]
    assert half.shape == (2, length // 2 + 1, 2)
    back = {"x": half, "n": np.array(length), "axis": np.array(1)}
    node = one_node("DFT", back, fixed=["n", "axis"], attrs={"onesided": 1, "inverse": 1})
    np.testing.assert_allclose(node.evaluated()[0], x, rtol=1e-4, atol=1e-5)


def test_short_time_transforms_agree_on_an_open_length(
    one_node: Nodes, agrees_with_onnxruntime: Check, numbers: Numbers
) -> None:
    inputs = {"x": numbers(2, 40, 1), "step": np.array(3), "window": np.hanning(8)}
    inputs["window"] = inputs["window"].astype(np.float32)
    node = one_node("STFT", inputs, 1, 17, fixed=["step", "window"], open_dims=False)
    agrees_with_onnxruntime(node, atol=1e-4)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("fixed", [["n"], []])
def test_windows_agree_at_known_and_open_sizes(
    one_node: Nodes, agrees_with_onnxruntime: Check, op: str, periodic: int, fixed: list[str]
) -> None:
    node = one_node(op, {"n": np.array(11)}, fixed=fixed, attrs={"periodic": periodic})
    agrees_with_onnxruntime(node, atol=1e-6)


def test_mel_filters_agree(one_node: Nodes, agrees_with_onnxruntime: Check) -> None:
    values = {"bins": 10, "n": 64, "rate": 8000}
    inputs = {n: np.array(v) for n, v in values.items()}
    inputs |= {"low": np.float32(50), "high": np.float32(3500)}
    agrees_with_onnxruntime(one_node("MelWeightMatrix", inputs, fixed=list(inputs)))


def test_a_transform_too_long_for_a_matrix_is_refused(one_node: Nodes) -> None:
    inputs = {"x": np.zeros((1, 4, 1), np.float32), "n": np.array(1 << 40), "axis": np.array(1)}
    with pytest.raises(CompileError, match="length") as caught:
        one_node("DFT", inputs, fixed=["n", "axis"]).module()
    assert caught.value.code == "E0402"

"""Quantised operators of ONNX Runtime's own domain, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
Nodes = Callable[..., Any]

DOMAIN = "com.microsoft"
KINDS: list[Any] = [np.uint8, np.int8]


def codes(kind: Any, *shape: int, seed: int = 0) -> Array:
    limits = np.iinfo(kind)
    source = np.random.default_rng([seed, *shape])
    return source.integers(limits.min, limits.max, shape, kind, endpoint=True)


def point(kind: Any, value: int) -> Array:
    return np.array(value - (128 if kind is np.int8 else 0), kind)


def within_one_code(check: Check, node: Any, *, atol: int = 1) -> None:
    """ONNX Runtime forms some of these in fixed point: a code may be one off."""
    check(node, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_maps_of_two_tensors_broadcast(
    one_node: Nodes, agrees_with_onnxruntime: Check, op: str, kind: Any
) -> None:
    inputs = {
        **{"a": codes(kind, 2, 5, 7), "as": np.float32(0.04), "az": point(kind, 120)},
        **{"b": codes(kind, 7), "bs": np.float32(0.03), "bz": point(kind, 100)},
        **{"s": np.float32(0.05), "z": point(kind, 130)},
    }
    within_one_code(agrees_with_onnxruntime, one_node(op, inputs, domain=DOMAIN))


OF_ONE: dict[str, dict[str, Any]] = {
    "QLinearSigmoid": {},
    "QLinearLeakyRelu": {"alpha": 0.2},
    "QLinearSoftmax": {"axis": -1, "opset": 13},
    "QLinearAveragePool": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    "QLinearGlobalAveragePool": {},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", OF_ONE)
def test_functions_of_one_tensor(
    one_node: Nodes, agrees_with_onnxruntime: Check, op: str, kind: Any
) -> None:
    inputs = {
        **{"x": codes(kind, 2, 4, 6, 5), "xs": np.float32(0.03), "xz": point(kind, 120)},
        **{"s": np.float32(1 / 256 if op in ("QLinearSigmoid", "QLinearSoftmax") else 0.02)},
        "z": point(kind, 0 if op in ("QLinearSigmoid", "QLinearSoftmax") else 110),
    }
    node = one_node(op, inputs, domain=DOMAIN, attrs=OF_ONE[op])
    within_one_code(agrees_with_onnxruntime, node)


def test_an_old_softmax_runs_over_all_axes_from_its_own_on(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    inputs = {
        **{"x": codes(np.uint8, 2, 4, 6), "xs": np.float32(0.03), "xz": np.uint8(120)},
        **{"s": np.float32(1 / 256), "z": np.uint8(0)},
    }
    node = one_node("QLinearSoftmax", inputs, domain=DOMAIN, attrs={"axis": 1, "opset": 11})
    within_one_code(agrees_with_onnxruntime, node)


@pytest.mark.parametrize("op", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
def test_pools_with_channels_last(one_node: Nodes, agrees_with_onnxruntime: Check, op: str) -> None:
    inputs = {
        **{"x": codes(np.uint8, 2, 6, 5, 4), "xs": np.float32(0.03), "xz": np.uint8(120)},
        **{"s": np.float32(0.02), "z": np.uint8(110)},
    }
    attrs = {**OF_ONE[op], "channels_last": 1}
    within_one_code(agrees_with_onnxruntime, one_node(op, inputs, domain=DOMAIN, attrs=attrs))


def test_tensors_of_other_scales_are_joined(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    inputs = {
        **{"s": np.float32(0.05), "z": np.uint8(9)},
        **{"a": codes(np.uint8, 2, 3, 4), "as": np.float32(0.04), "az": np.uint8(5)},
        **{"b": codes(np.uint8, 2, 2, 4), "bs": np.float32(0.05), "bz": np.uint8(9)},
    }
    node = one_node("QLinearConcat", inputs, domain=DOMAIN, attrs={"axis": 1}, fixed=["s", "z"])
    within_one_code(agrees_with_onnxruntime, node)


def test_a_choice_between_tensors_of_other_scales(
    one_node: Nodes, agrees_with_onnxruntime: Check
) -> None:
    inputs = {
        "c": np.array([[True, False, True]]),
        **{"a": codes(np.uint8, 4, 3), "as": np.float32(0.04), "az": np.uint8(5)},
        **{"b": codes(np.uint8, 4, 3, seed=1), "bs": np.float32(0.05), "bz": np.uint8(9)},
        **{"s": np.float32(0.06), "z": np.uint8(7)},
    }
    fixed = ["as", "az", "bs", "bz", "s", "z"]
    node = one_node("QLinearWhere", inputs, domain=DOMAIN, fixed=fixed)
    within_one_code(agrees_with_onnxruntime, node)


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("columns", [1, 7])
@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_of_codes(
    one_node: Nodes, agrees_with_onnxruntime: Check, rounded: bool, columns: int, transposed: int
) -> None:
    w = codes(np.int8, 7, 9) if transposed else codes(np.int8, 9, 7)
    inputs = {
        **{"x": codes(np.uint8, 4, 9), "xs": np.float32(0.04), "xz": np.uint8(120)},
        **{"w": w, "ws": np.linspace(0.01, 0.02, columns, dtype=np.float32)},
        "wz": np.zeros(columns, np.int8),
        "bias": np.arange(7, dtype=np.int32) * 90,
        **{"s": np.float32(0.05) if rounded else None, "z": np.uint8(99) if rounded else None},
    }
    attrs = {"transB": transposed, "alpha": 0.5}
    node = one_node("QGemm", inputs, domain=DOMAIN, attrs=attrs, fixed=["w", "ws", "wz", "bias"])
    if rounded:
        within_one_code(agrees_with_onnxruntime, node)
    else:
        agrees_with_onnxruntime(node)


def test_products_that_end_in_floats(one_node: Nodes, agrees_with_onnxruntime: Check) -> None:
    parts = {"w": codes(np.int8, 9, 7), "ws": np.linspace(0.01, 0.02, 7, dtype=np.float32)}
    tail = {"wz": np.zeros(7, np.int8), "bias": np.arange(7, dtype=np.float32)}
    x = np.random.default_rng(3).standard_normal((2, 4, 9)).astype(np.float32)
    fixed = ["w", "ws", "wz", "bias"]
    node = one_node("DynamicQuantizeMatMul", {"x": x, **parts, **tail}, domain=DOMAIN, fixed=fixed)
    agrees_with_onnxruntime(node)
    inputs = {
        **{"x": codes(np.uint8, 2, 4, 9), "w": parts["w"], "xs": np.float32(0.04)},
        **{"ws": parts["ws"], "xz": np.uint8(120), **tail},
    }
    agrees_with_onnxruntime(one_node("MatMulIntegerToFloat", inputs, domain=DOMAIN, fixed=fixed))


def of_few_bits(k: int, n: int, bits: int, block: int, *, zeros: bool) -> dict[str, Array | None]:
    blocks = -(-k // block)
    source = np.random.default_rng([k, n, bits])
    return {
        "x": source.standard_normal((2, 3, k)).astype(np.float32),
        "w": source.integers(0, 256, (n, blocks, block * bits // 8), np.uint8),
        "s": source.random(n * blocks).astype(np.float32) / 50 + 0.01,
        "z": source.integers(0, 256, n * -(-blocks * bits // 8), np.uint8) if zeros else None,
    }


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("k", "n"), [(64, 5), (48, 7), (33, 4)])
def test_products_with_weights_of_few_bits(
    one_node: Nodes, agrees_with_onnxruntime: Check, k: int, n: int, bits: int, zeros: bool
) -> None:
    inputs = of_few_bits(k, n, bits, 16, zeros=zeros)
    attrs = {"K": k, "N": n, "bits": bits, "block_size": 16}
    fixed = ["w", "s", *(["z"] if zeros else [])]
    node = one_node("MatMulNBits", inputs, domain=DOMAIN, attrs=attrs, fixed=fixed)
    agrees_with_onnxruntime(node)
    assert {"nn.dequantize", "nn.matmul"} <= set(node.operators())


@pytest.mark.parametrize(
    ("change", "attrs", "code", "said"),
    [
        ({"g": np.zeros(64, np.int32)}, {}, "E0402", "g_idx"),
        ({}, {"bits": 5}, "E0402", "bits"),
        ({"s": np.ones(3, np.float32)}, {}, "E0310", "scales do not fit"),
        ({"w": np.ones((5, 4, 9), np.uint8)}, {}, "E0310", "weights do not fit"),
        ({"z": np.full(20, 7.5, np.float32)}, {}, "E0402", "zero points"),
        ({}, {"block_size": 0}, "E0310", "not positive"),
    ],
)
def test_weights_of_few_bits_that_have_no_support_are_refused(
    one_node: Nodes, change: dict[str, Array], attrs: dict[str, int], code: str, said: str
) -> None:
    inputs = of_few_bits(64, 5, 4, 16, zeros=False) | {"g": None} | change
    given = {"K": 64, "N": 5, "bits": 4, "block_size": 16} | attrs
    fixed = [name for name in ("w", "s", "z", "g") if inputs[name] is not None]
    node = one_node("MatMulNBits", inputs, domain=DOMAIN, attrs=given, fixed=fixed)
    with pytest.raises(CompileError, match=said) as told:
        node.module()
    assert code in str(told.value)

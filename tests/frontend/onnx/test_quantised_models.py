"""A model that comes quantised runs on integer kernels, and gives what ONNX Runtime gives."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tapeout
from tapeout.frontend import driver
from tapeout.ir.dtypes import i8, u8
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]

SCALE = 0.05
"""Of every activation: what one code is worth."""


class Network:
    """An ONNX graph in the making, whose products read dequantised codes."""

    def __init__(self, activations: Any) -> None:
        self.random = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.fixed: list[onnx.TensorProto] = []
        self.zero = np.array(3, activations)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.fixed)}"
        self.fixed.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def rounded(self, x: str) -> str:
        parameters = self.constant(np.array(SCALE, np.float32)), self.constant(self.zero)
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *parameters), *parameters)

    def weight(self, *shape: int) -> str:
        codes = self.constant(self.random.integers(-127, 128, shape).astype(np.int8))
        scales = self.constant((self.random.random(shape[0]) / 900 + 1e-3).astype(np.float32))
        zeros = self.constant(np.zeros(shape[0], np.int8))
        return self.add("DequantizeLinear", codes, scales, zeros, axis=0)

    def bias(self, count: int) -> str:
        codes = self.constant(self.random.integers(-2000, 2000, count).astype(np.int32))
        return self.add("DequantizeLinear", codes, self.constant(np.array(1e-4, np.float32)))

    def conv(self, x: str, outputs: int, channels: int, **attrs: Any) -> str:
        groups = attrs.get("group", 1)
        w = self.weight(outputs, channels // groups, 3, 3)
        return self.add("Conv", x, w, self.bias(outputs), pads=[1, 1, 1, 1], **attrs)


def network(activations: Any) -> onnx.ModelProto:
    """Convolutions of all kinds around a residual sum, and a classifier."""
    g = Network(activations)
    x = g.rounded("x")
    y = g.rounded(g.add("Relu", g.conv(x, 24, 5)))
    z = g.rounded(g.conv(y, 24, 24, group=24))
    z = g.rounded(g.add("Add", g.rounded(g.conv(z, 24, 24, strides=[2, 2])), skipped(g, y)))
    flat = g.add("Flatten", g.rounded(g.add("GlobalAveragePool", z)))
    g.add("Gemm", flat, g.weight(10, 24), g.bias(10), transB=1)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5, 9, 8])
    result = helper.make_tensor_value_info(g.nodes[-1].output[0], TensorProto.FLOAT, [2, 10])
    graph = helper.make_graph(g.nodes, "quantised", [given], [result], g.fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def skipped(g: Network, y: str) -> str:
    return g.rounded(g.add("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))


@pytest.mark.parametrize("activations", [np.uint8, np.int8])
def test_a_quantised_network_runs_in_bytes(activations: Any, tmp_path: Path) -> None:
    model = network(activations)
    module = driver.import_any(model)
    driver.lower(module)
    products = [op for op in module.ir.walk() if isinstance(op, ConvOp | MatmulOp)]
    types = {tuple(spec(v).dtype for v in op.operands[:2]) for op in products}
    assert types == {(u8, i8)}
    x = np.random.default_rng(5).standard_normal((2, 5, 9, 8)).astype(np.float32)
    path = tapeout.compile(model, "cpu", output=tmp_path / "model.tapeout")
    (have,) = tapeout.load(path).run({"x": x}).values()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (want,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    # Codes may round the other way where sums are rounded in another order: two of 24 features.
    most = 2 * SCALE * 0.27
    np.testing.assert_allclose(have, np.asarray(want), atol=most)
    assert np.abs(have).max() > 10 * most

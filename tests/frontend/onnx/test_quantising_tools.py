"""Models that ONNX Runtime's own tools quantise run on integer kernels, and agree with it."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

import tapeout
from tapeout.frontend import driver
from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]

BYTES = ("u8", "i8")


class Network:
    """A network of floats: convolutions, a pool, a residual sum, a matrix product."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.fixed: list[onnx.TensorProto] = []

    def constant(self, *shape: int) -> str:
        name = f"c{len(self.fixed)}"
        array = self.random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        self.fixed.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"n_{name}", **attrs))
        return name

    def conv(self, x: str, outputs: int, channels: int) -> str:
        parts = self.constant(outputs, channels, 3, 3), self.constant(outputs)
        return self.add("Conv", x, *parts, pads=[1, 1, 1, 1], kernel_shape=[3, 3])

    def model(self) -> onnx.ModelProto:
        y = self.add("Relu", self.conv("x", 16, 5))
        y = self.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        y = self.add("Relu", self.add("Add", self.conv(y, 16, 16), y))
        y = self.add("Flatten", self.add("GlobalAveragePool", y))
        y = self.add("Relu", self.add("MatMul", y, self.constant(16, 64)))
        self.add("MatMul", y, self.constant(64, 10))
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5, 8, 8])
        result = helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.FLOAT, [2, 10])
        graph = helper.make_graph(self.nodes, "floats", [given], [result], self.fixed)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Samples(CalibrationDataReader):
    """A few inputs to take scales from."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        arrays = (random.standard_normal((2, 5, 8, 8)).astype(np.float32) for _ in range(4))
        self.left: Iterator[Mapping[str, Array]] = iter([{"x": a} for a in arrays])

    def get_next(self) -> Any:
        return next(self.left, None)


def static(layout: Any, weights: Any, *, per_channel: bool) -> Callable[[Path, Path], None]:
    def make(model: Path, to: Path) -> None:
        quantize_static(
            model,
            to,
            Samples(),
            quant_format=layout,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=weights,
        )

    return make


def dynamic(weights: Any, *, per_channel: bool) -> Callable[[Path, Path], None]:
    def make(model: Path, to: Path) -> None:
        quantize_dynamic(model, to, weight_type=weights, per_channel=per_channel)

    return make


def few_bits(bits: int, layout: Any, *, symmetric: bool) -> Callable[[Path, Path], None]:
    def make(model: Path, to: Path) -> None:
        how = DefaultWeightOnlyQuantConfig(
            block_size=32, is_symmetric=symmetric, bits=bits, quant_format=layout
        )
        tool: Any = MatMulNBitsQuantizer(onnx.load(model), algo_config=how)
        tool.process()
        onnx.save(tool.model.model, to)

    return make


Q, D = QuantType, QuantFormat
IN_BYTES: dict[str, Callable[[Path, Path], None]] = {
    "QDQ": static(D.QDQ, Q.QInt8, per_channel=True),
    "QDQ, unsigned weights": static(D.QDQ, Q.QUInt8, per_channel=False),
    "QOperator": static(D.QOperator, Q.QInt8, per_channel=True),
    "QOperator, unsigned weights": static(D.QOperator, Q.QUInt8, per_channel=False),
    "dynamic": dynamic(Q.QInt8, per_channel=False),
    "dynamic, per channel": dynamic(Q.QInt8, per_channel=True),
    "dynamic, unsigned weights": dynamic(Q.QUInt8, per_channel=False),
}
FEW_BITS: dict[str, Callable[[Path, Path], None]] = {
    "4 bits": few_bits(4, D.QOperator, symmetric=True),
    "4 bits, zero points": few_bits(4, D.QOperator, symmetric=False),
    "8 bits": few_bits(8, D.QOperator, symmetric=False),
    "4 bits, QDQ": few_bits(4, D.QDQ, symmetric=False),
}


def quantised(make: Callable[[Path, Path], None], folder: Path) -> onnx.ModelProto:
    """The network, written, quantised by a tool, and read again."""
    logging.disable(logging.WARNING)
    try:
        onnx.save(Network().model(), folder / "floats.onnx")
        make(folder / "floats.onnx", folder / "quantised.onnx")
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(folder / "quantised.onnx")


def sample() -> Array:
    return np.random.default_rng(9).standard_normal((2, 5, 8, 8)).astype(np.float32)


def by_onnxruntime(model: onnx.ModelProto) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": sample()})[0])


def check_outputs(model: onnx.ModelProto, folder: Path, most: float) -> None:
    """Compile and run; ``most`` is relative to the largest output of ONNX Runtime."""
    path = tapeout.compile(model, "cpu", output=folder / "model.tapeout")
    (have,) = tapeout.load(path).run({"x": sample()}).values()
    want = by_onnxruntime(model)
    np.testing.assert_allclose(have, want, atol=most * np.abs(want).max())


@pytest.mark.parametrize("way", IN_BYTES)
def test_every_product_is_one_of_bytes(way: str, tmp_path: Path) -> None:
    model = quantised(IN_BYTES[way], tmp_path)
    module = driver.import_any(model)
    driver.lower(module)
    products = [op for op in module.ir.walk() if isinstance(op, ConvOp | MatmulOp)]
    types = Counter(tuple(spec(v).dtype.name for v in op.operands[:2]) for op in products)
    assert set(types) == {BYTES}
    # A code may round the other way where sums are rounded in another order.
    check_outputs(model, tmp_path, most=0.03)


@pytest.mark.parametrize("way", FEW_BITS)
def test_weights_of_few_bits_stay_codes_with_their_scales(way: str, tmp_path: Path) -> None:
    model = quantised(FEW_BITS[way], tmp_path)
    module = driver.import_any(model)
    weights = [op for op in module.ir.walk() if op.name == "nn.dequantize"]
    assert len(weights) == 2
    assert all(spec(op.operands[0]).dtype is not f32 for op in weights)
    (have,) = evaluate(module, {"x": sample()}).values()
    np.testing.assert_allclose(have, by_onnxruntime(model), rtol=1e-4, atol=1e-5)
    # Kernels round activations to bytes.
    check_outputs(model, tmp_path, most=0.03)

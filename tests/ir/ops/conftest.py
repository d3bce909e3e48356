"""An oracle for operators: ONNX's reference evaluator on a model of one node."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]


@pytest.fixture
def onnx_node() -> Callable[..., list[Array]]:
    """``onnx_node(op_type, *arrays, outputs=1, opset=23, **attributes)``; None skips an input."""

    def run(
        op_type: str, *arrays: Array | None, outputs: int = 1, opset: int = 23, **attributes: Any
    ) -> list[Array]:
        given = {f"i{i}": a for i, a in enumerate(arrays) if a is not None}
        names = [f"i{i}" if a is not None else "" for i, a in enumerate(arrays)]
        made = [f"o{i}" for i in range(outputs)]
        node = onnx.helper.make_node(op_type, names, made, **attributes)
        inputs = [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
            )
            for n, a in given.items()
        ]
        results = [onnx.helper.make_tensor_value_info(n, 1, None) for n in made]
        graph = onnx.helper.make_graph([node], "one", inputs, results)
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10
        )
        values = cast(Any, ReferenceEvaluator(model)).run(None, given)
        return [np.asarray(v) for v in values]

    return run


@pytest.fixture
def close() -> Callable[..., None]:
    """Compare arrays of equal shape and type."""

    def check(result: Array, expected: Array, tolerance: float = 1e-5) -> None:
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)

    return check


@pytest.fixture
def normal() -> Callable[..., Array]:
    """``normal(*shape)``: f32 values of one seeded stream."""
    random = np.random.default_rng(11)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)

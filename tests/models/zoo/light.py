"""The nine light models inside the onnx package, with their reference outputs.

They are old Caffe2 networks (opset 9) whose weights are ``ConstantOfShape`` nodes. ONNX's own
runner feeds every input ``arange(n) / n`` and compares with the ``*_output_0.pb`` that lies beside
the model; the same pair is kept here.

Further arrays: ``expected.npz`` holds the reference outputs. ``info.json`` has the tolerances that
ONNX's runner uses under ``facts`` (``rtol``, ``atol``).
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from .recipe import Made, Recipe


def make(recipe: Recipe, folder: Path) -> Made:
    """Copy the model that ONNX's own test of that name runs."""
    wanted = recipe.name.removeprefix("light-").replace("-", "_")
    (case,) = (case for case in load_model_tests(kind="real") if case.model_name == wanted)
    source = _source(case)
    shutil.copyfile(source, folder / "model.onnx")
    graph = onnx.load(str(source)).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _ramp(value) for value in graph.input if value.name not in weights}
    expected = {
        value.name: onnx.numpy_helper.to_array(
            onnx.load_tensor(str(source.with_name(f"{source.stem}_output_{i}.pb")))
        )
        for i, value in enumerate(graph.output)
    }
    facts = {"rtol": case.rtol, "atol": case.atol}
    return Made(inputs, arrays={"expected": expected}, facts=facts)


def _ramp(value: onnx.ValueInfoProto) -> np.ndarray:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


def _source(case: TestCase) -> Path:
    assert case.url is not None, "a light model is named by a path inside the onnx package"
    return Path(onnx.__file__).parents[1] / case.url

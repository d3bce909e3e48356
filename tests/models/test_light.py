"""The nine light models of the onnx package: their reference outputs, and ONNX Runtime's."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tapeout

pytestmark = pytest.mark.models

NAMES = (
    *("bvlc-alexnet", "densenet121", "inception-v1", "inception-v2", "resnet50"),
    *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
)


@pytest.mark.parametrize("name", NAMES)
def test_light_models_give_their_reference_outputs(
    zoo: Callable[[str], Any],
    compiled: Callable[[str], Path],
    name: str,
) -> None:
    model = zoo(f"light-{name}")
    ramp: dict[str, np.ndarray] = model.arrays("inputs")
    expected: dict[str, np.ndarray] = model.arrays("expected")
    with tapeout.load(compiled(model.name), threads=2) as program:
        ours = program.run(ramp)
    for output, value in expected.items():
        tolerance = {"rtol": model.facts["rtol"], "atol": model.facts["atol"]}
        np.testing.assert_allclose(ours[output], value, **tolerance, err_msg=output)


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_gives_the_reference_outputs_too(zoo: Callable[[str], Any], name: str) -> None:
    model = zoo(f"light-{name}")
    theirs = model.reference(model.arrays("inputs"))
    for output, value in model.arrays("expected").items():
        tolerance = {"rtol": model.facts["rtol"], "atol": model.facts["atol"]}
        np.testing.assert_allclose(theirs[output], value, **tolerance, err_msg=output)


def with_random_weights(path: Path) -> onnx.ModelProto:
    """The model with noise for weights, its outputs before a last softmax.

    As shipped, every weight of a layer is one number: all outputs are alike, whatever a compiler
    does to the convolutions. A softmax over large logits would hide as much.
    """
    model = onnx.load(path)
    generator = np.random.default_rng(9)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            shape = tuple(int(n) for n in shapes[node.input[0]])
            noise = generator.standard_normal(shape, np.float32)
            fan_in = np.float32(np.prod(shape[1:]))
            values = noise * np.sqrt(2 / fan_in) if len(shape) > 1 else 0.5 + np.abs(noise)
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    if nodes[-1].op_type == "Softmax":
        logits = nodes.pop().input[0]
        del model.graph.output[:]
        model.graph.output.append(
            helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None)
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_light_models_with_random_weights_agree_with_onnxruntime(
    zoo: Callable[[str], Any], assert_agrees: Callable[..., None], tmp_path: Path, name: str
) -> None:
    source = zoo(f"light-{name}")
    model = with_random_weights(source.path)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    generator = np.random.default_rng(3)
    inputs = {i.name: generator.standard_normal(i.shape, np.float32) for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    theirs = dict(zip(outputs, map(np.asarray, session.run(outputs, inputs)), strict=True))
    assert all(np.unique(v).size > v.size / 2 for v in theirs.values()), "the outputs are alike"
    artifact = tapeout.compile(model, output=tmp_path / "random.tapeout")
    with tapeout.load(artifact, threads=2) as program:
        assert_agrees(program.run(inputs), theirs)

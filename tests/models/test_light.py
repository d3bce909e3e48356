"""The nine light models of the onnx package: their reference outputs, and ONNX Runtime's."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tapeout
from tapeout.frontend import driver
from tapeout.runtime import artifact
from tapeout.targets.cpu import target

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


SANITIZE = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUNNER = Path(__file__).parents[1] / "differential" / "run_artifacts.py"


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def sanitized(source: Any, folder: Path, device: Any) -> Path:
    """A model with random weights that watches its memory, its inputs and ONNX Runtime's outputs.

    numpy's memory is watched too: an element read beside an input is a fault.
    """
    model = with_random_weights(source.path)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    generator = np.random.default_rng(3)
    inputs = {i.name: generator.standard_normal(i.shape, np.float32) for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    outputs = dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True))
    module = driver.import_any(model)
    driver.lower(module)
    made = target.compile_module(module, [replace(device, flags=(*device.flags, *SANITIZE))])
    folder.mkdir()
    artifact.write(folder / "model.tapeout", made.manifest, made.files)
    save(folder / "0-inputs.npz", inputs)
    save(folder / "0-outputs.npz", outputs)
    return folder


@pytest.mark.parametrize(("name", "device"), [("squeezenet", "cpu"), ("shufflenet", "cpu:generic")])
def test_kernels_of_light_models_run_clean_under_sanitizers(
    zoo: Callable[[str], Any], tmp_path: Path, name: str, device: str
) -> None:
    folder = sanitized(zoo(f"light-{name}"), tmp_path / name, *driver.targeted(device))
    library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(folder)],
        # Python does not free what it holds at its end.
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 artifacts" in done.stdout

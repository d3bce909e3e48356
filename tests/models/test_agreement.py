"""Compiled models give ONNX Runtime's outputs, and the same bits with any number of threads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeout

pytestmark = pytest.mark.models

MODELS = (
    *("resnet50", "mobilenetv2", "vit-base", "bert-base", "bert-base-dynamic"),
    *("minilm", "gpt2", "digits", "mlp", "charlm"),
)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree_with_onnxruntime_and_do_not_depend_on_threads(
    zoo: Callable[[str], Any],
    compiled: Callable[[str], Path],
    assert_agrees: Callable[..., None],
    name: str,
) -> None:
    model, artifact = zoo(name), compiled(name)
    inputs = model.arrays("inputs")
    with tapeout.load(artifact, threads=1) as program:
        alone = program.run(inputs)
    assert_agrees(alone, model.reference(inputs))
    with tapeout.load(artifact, threads=2) as program:
        shared = program.run(inputs)
        again = program.run(inputs)
    for output, bits in alone.items():
        np.testing.assert_array_equal(shared[output], bits)
        np.testing.assert_array_equal(again[output], bits)


@pytest.mark.parametrize("name", ["resnet50", "mlp"])
def test_bound_buffers_give_what_a_plain_run_gives(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path], name: str
) -> None:
    inputs = zoo(name).arrays("inputs")
    with tapeout.load(compiled(name), threads=2) as program:
        plain = program.run(inputs)
        outputs = {key: np.zeros_like(value) for key, value in plain.items()}
        call = program.bind(inputs, outputs)
        call()
    for key, value in plain.items():
        np.testing.assert_array_equal(outputs[key], value)

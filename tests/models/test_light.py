"""The nine light models of the onnx package: their reference outputs, and ONNX Runtime's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    assert_agrees: Callable[..., None],
    name: str,
) -> None:
    model = zoo(f"light-{name}")
    ramp: dict[str, np.ndarray] = model.arrays("inputs")
    expected: dict[str, np.ndarray] = model.arrays("expected")
    # The ramp hardly varies from pixel to pixel, so a wrong padding or stride might not show.
    generator = np.random.default_rng(9)
    noise = {k: generator.standard_normal(v.shape).astype(np.float32) for k, v in ramp.items()}
    with tapeout.load(compiled(model.name), threads=2) as program:
        ours = program.run(ramp)
        assert_agrees(program.run(noise), model.reference(noise))
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

"""Artifacts of hand-written models, loaded and run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tapeout.runtime.program import load

Pack = Callable[..., Path]


@pytest.mark.parametrize("format", ["file", "dir"])
@pytest.mark.parametrize("verify", [True, False, "full"])
def test_fixed_model_agrees_with_numpy(artifact, mlp_reference, format, verify):
    program = load(artifact("mlp", format), verify=verify)
    x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    y = program.run({"x": x})["y"]
    np.testing.assert_allclose(y, mlp_reference(x), rtol=1e-5)

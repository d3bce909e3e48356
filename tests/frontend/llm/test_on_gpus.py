"""Sessions of a language model on an emulated GPU: what the program for this CPU gives."""

from pathlib import Path

import numpy as np
import pytest

import tapeout
from tapeout.frontend.emulate import code_of
from tapeout.runtime.program import load
from tapeout.targets.gpu.emulate.driver import Emulator

from .small import ARCHITECTURES, VOCABULARY


@pytest.mark.parametrize("quantize", [None, "w4g32"])
def test_sessions_give_what_they_give_on_a_cpu(tmp_path: Path, quantize: str | None) -> None:
    model = ARCHITECTURES["llama"](1)
    paths = {
        target: tapeout.compile(model, target, output=tmp_path / target[:3], quantize=quantize)
        for target in ("cpu", "gpu:sm_80")
    }
    device = Emulator(code_of(paths["gpu:sm_80"]))
    random = np.random.default_rng(0)
    prompts = [random.integers(1, VOCABULARY, n) for n in (3, 70)]
    with load(paths["cpu"]) as right, load(paths["gpu:sm_80"], driver=device.table) as program:
        want, have = (p.decoding(batch=2, max_length=100, pages=8) for p in (right, program))
        np.testing.assert_allclose(
            have.prefill(prompts), want.prefill(prompts), rtol=1e-4, atol=1e-5
        )
        other = have.fork()
        first = have.decode([5, 6])
        np.testing.assert_allclose(first, want.decode([5, 6]), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(other.decode([5, 6]), first)
        have.rollback(1)
        np.testing.assert_array_equal(have.decode([5, 6]), first)
    assert device.fault is None

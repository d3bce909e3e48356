"""Breadth: very small models of many architectures agree with ONNX Runtime at several sizes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tapeout

pytestmark = pytest.mark.models

NAMES = (
    *("tiny-llama-step", "tiny-mixtral", "tiny-deberta", "tiny-mamba2", "tiny-wav2vec2"),
    *("tiny-swin", "tiny-detector", "tiny-denoiser", "tiny-vocoder", "tiny-tagger", "tiny-graph"),
    "tiny-recommender",
)


@pytest.fixture(scope="module")
def made_together() -> None:
    """Have all models made by one process: importing the exporters takes longer than a model."""
    script = Path(__file__).with_name("make.py")
    subprocess.run([sys.executable, str(script), *NAMES], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.usefixtures("made_together")
@pytest.mark.parametrize("name", NAMES)
def test_one_artifact_agrees_at_every_size(
    zoo: Callable[[str], Any],
    compiled: Callable[[str], Path],
    assert_agrees: Callable[..., None],
    name: str,
) -> None:
    model = zoo(name)
    with tapeout.load(compiled(name), threads=2) as program:
        for stem in ("inputs", "small", "large"):
            inputs = model.arrays(stem)
            assert_agrees(program.run(inputs), model.reference(inputs))

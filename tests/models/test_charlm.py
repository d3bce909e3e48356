"""The language model: one artifact for every length, and a text judged as it is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeout

pytestmark = pytest.mark.models


def test_one_artifact_runs_every_batch_and_length(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path], assert_agrees: Callable[..., None]
) -> None:
    windows = zoo("charlm").arrays("validation")["windows"]
    with tapeout.load(compiled("charlm"), threads=2) as program:
        for batch, length in [(1, 1), (1, 2), (2, 17), (3, 127), (64, 5), (64, 128)]:
            inputs = {"input_ids": np.ascontiguousarray(windows[:batch, :length])}
            assert_agrees(program.run(inputs), zoo("charlm").reference(inputs))


def test_what_comes_later_changes_nothing_before(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    window = zoo("charlm").arrays("validation")["windows"][:1, :-1]
    with tapeout.load(compiled("charlm"), threads=2) as program:
        whole = program.run({"input_ids": np.ascontiguousarray(window)})["logits"]
        for length in (1, 40, 127):
            part = program.run({"input_ids": np.ascontiguousarray(window[:, :length])})["logits"]
            np.testing.assert_allclose(whole[:, :length], part, atol=1e-4)

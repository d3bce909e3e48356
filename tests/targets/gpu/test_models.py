"""Whole models, every kernel as the code that ships for sm_80: they give what the graph means."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.frontend import driver
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module

Array = np.ndarray[Any, Any]
Interpret = Callable[[Module, Mapping[str, Array]], dict[str, Array]]
MAKE = Path(__file__).parents[2] / "models" / "make.py"

pytestmark = pytest.mark.models


def made(name: str, arrays: str) -> tuple[Path, dict[str, Array]]:
    """A model of the zoo, and arrays that lie beside it."""
    command = [sys.executable, str(MAKE), "--json", name]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    folder = Path(json.loads(found.stdout)[0]["folder"])
    with np.load(folder / f"{arrays}.npz") as stored:
        return folder / "model.onnx", {key: stored[key] for key in stored.files}


@pytest.mark.parametrize(
    ("name", "arrays", "inputs"),
    [
        ("digits", "test", {"image": "images"}),
        ("minilm", "short", {n: n for n in ("input_ids", "attention_mask", "token_type_ids")}),
    ],
)
def test_a_model_gives_what_its_graph_means(
    name: str, arrays: str, inputs: Mapping[str, str], interpret: Interpret
) -> None:
    path, stored = made(name, arrays)
    given = {port: stored[key][:3] for port, key in inputs.items()}
    module = driver.import_any(path)
    wanted = evaluate(module, given)
    driver.lower(module)
    found = interpret(module, given)
    for output, want in wanted.items():
        close(found[output], want)


def close(have: Array, want: Array) -> None:
    assert have.shape == want.shape
    atol = 1e-4 * float(np.abs(want).max())
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=atol)

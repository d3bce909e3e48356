"""The engine behind the ONNX backend: compile for this machine, load, run."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tapeout.frontend.driver import compile
from tapeout.runtime.program import load

Array = np.ndarray[Any, Any]


def compile_and_load(model: onnx.ModelProto) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function from inputs to outputs by name; the artifact's file is gone, its mapping stays."""
    with tempfile.TemporaryDirectory(prefix="tapeout-") as folder:
        return load(compile(model, "cpu", output=Path(folder, "model.tapeout"))).run

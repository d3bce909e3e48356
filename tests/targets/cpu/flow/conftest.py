"""Models in ONNX's text form, compiled for this machine and run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import tapeout
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.types import specs
from tapeout.runtime.program import Program

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Both:
    """One model, compiled and as a module for the evaluator."""

    module: Module
    program: Program

    def run(self, **inputs: Any) -> list[Array]:
        """Outputs of the program, in order."""
        return list(self.program.run(self.arrays(inputs)).values())

    def arrays(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Inputs in the element types of the model."""
        entry = next(self.module.entries())
        kinds = zip(entry.inputs.data, specs(entry.body.block.args), strict=True)
        return {name: np.asarray(inputs[name]).astype(t.dtype.numpy) for name, t in kinds}

    def agree(self, **inputs: Any) -> list[Array]:
        """Outputs of the program, which must be the evaluator's."""
        want = evaluate(self.module, self.arrays(inputs))
        have = self.run(**inputs)
        for name, a, b in zip(want, want.values(), have, strict=True):
            assert a.dtype == b.dtype, name
            np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6, err_msg=name)
        return have


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Both]:
    """Compile a graph: ``compiled("g (float[N] x) => (y) {...}")``."""

    def make(text: str, opset: int = 20, dims: Mapping[str, Any] | None = None) -> Both:
        header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
        model = onnx.parser.parse_model(header + text)
        path = tapeout.compile(model, dims=dims, output=tmp_path / "model.tapeout")
        return Both(import_model(load_model(model), dims), tapeout.load(path, threads=2))

    return make

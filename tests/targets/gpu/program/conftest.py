"""Programs for GPUs, compiled for sm_80, on an emulated device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import tapeout
from tapeout.frontend.emulate import code_of, emulated
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.types import specs
from tapeout.targets.gpu.emulate.driver import Emulator

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Emulated:
    """One model, as an artifact and as a module for the evaluator."""

    module: Module
    path: Path

    def device(self, **options: Any) -> Emulator:
        """A device of its own for this program."""
        return Emulator(code_of(self.path), **options)

    def arrays(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Inputs in the element types of the model."""
        entry = next(self.module.entries())
        kinds = zip(entry.inputs.data, specs(entry.body.block.args), strict=True)
        return {name: np.asarray(inputs[name]).astype(t.dtype.numpy) for name, t in kinds}

    def run(self, device: Emulator | None = None, **inputs: Any) -> dict[str, Array]:
        """Outputs of the program."""
        with emulated(self.path, device) as program:
            return program.run(self.arrays(inputs))

    def agree(self, *runs: Mapping[str, Any]) -> list[dict[str, Array]]:
        """Outputs of runs on one open program, which must be the evaluator's."""
        found: list[dict[str, Array]] = []
        with emulated(self.path) as program:
            for inputs in map(self.arrays, runs):
                found.append(have := program.run(inputs))
                for name, want in evaluate(self.module, inputs).items():
                    assert have[name].dtype == want.dtype, name
                    np.testing.assert_allclose(have[name], want, rtol=2e-5, atol=1e-6, err_msg=name)
        return found


@pytest.fixture
def on_gpu(tmp_path: Path) -> Callable[..., Emulated]:
    """Compile a graph: ``on_gpu("g (float[N] x) => (y) {...}")``."""

    def make(text: str, **options: Any) -> Emulated:
        header = '<ir_version: 10, opset_import: ["" : 20]>'
        model = onnx.parser.parse_model(header + text)
        path = tapeout.compile(model, "gpu:sm_80", output=tmp_path / "model", **options)
        return Emulated(import_model(load_model(model), options.get("dims")), path)

    return make


GRAPH = """
g (float[N, 6] x, float[M, 6] z) => (y)
<float[6, 6] w = {
    1, 0, 0, 0, 0, 0,  0, 1, 0, 0, 0, 0,  0, 0, 1, 0, 0, 0,
    0, 0, 0, 1, 0, 0,  0, 0, 0, 0, 1, 0,  0, 0, 0, 0, 0, 1
}> {
    h = MatMul(x, w)
    a = Softmax<axis = 1>(h)
    b = MatMul(a, w)
    c = Softmax<axis = 0>(b)
    d = MatMul(c, w)
    y = Add(d, z)
}"""


@pytest.fixture(scope="session")
def make_model() -> Callable[[Path], Path]:
    """Writes a program of several kernels to a folder: softmaxes, products, and a sum."""

    def make(folder: Path) -> Path:
        model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 20]>' + GRAPH)
        dims = {"N": (2, 99), "M": (2, 99)}
        return tapeout.compile(model, "gpu:sm_80", dims=dims, output=folder, format="dir")

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That program: ``softmax(softmax(x, 1), 0) + z``."""
    return make_model(tmp_path_factory.mktemp("model") / "model")

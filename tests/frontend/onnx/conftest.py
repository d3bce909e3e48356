"""Models written as text, imported and run by the reference evaluator."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.parser
import pytest

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Imported:
    """An imported model: its operators by name, and how to run it."""

    module: Module

    @property
    def ops(self) -> Counter[str]:
        """How often each operator occurs, regions included; the return is left out."""
        entry = next(self.module.entries())
        names = [op.name.removeprefix("nn.") for op in entry.body.block.walk()]
        return Counter(name for name in names if name != "return")

    @property
    def inputs(self) -> list[str]:
        """The sizes of each input as text, ranges left out."""
        entry = next(self.module.entries())
        return [", ".join(map(str, spec(a).dims)) for a in entry.body.block.args]

    @property
    def outputs(self) -> list[str]:
        """The sizes of each output as text."""
        entry = next(self.module.entries())
        return [", ".join(map(str, spec(v).dims)) for v in entry.returned]

    def run(self, **inputs: Any) -> list[Array]:
        """Outputs in order."""
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        return list(evaluate(self.module, arrays).values())


Import = Callable[..., Imported]


@pytest.fixture
def imported() -> Import:
    """Import a graph in ONNX's text form: ``imported("g (float[N] x) => (float[N] y) {...}")``."""

    def make(text: str, opset: int = 20, dims: Mapping[str, Any] | None = None) -> Imported:
        header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
        module = import_model(load_model(onnx.parser.parse_model(header + text)), dims)
        module.ir.verify()
        return Imported(module)

    return make

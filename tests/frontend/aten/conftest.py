"""Torch programs imported and run by the reference evaluator."""

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tapeout.frontend.aten.element_types import array_of
from tapeout.frontend.aten.export import exported
from tapeout.frontend.aten.importer import import_program
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What torch warns of while it exports is its own affair."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def samples() -> Any:
    """The module beside this file; importing torch's operator tests takes seconds."""
    path = Path(__file__).with_name("samples.py")
    made = importlib.util.spec_from_file_location("aten_samples", path)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    sys.modules["aten_samples"] = module
    made.loader.exec_module(module)
    return module


class Calls(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


@dataclass(frozen=True)
class Imported:
    """An imported program: its operators by name, and how to run it."""

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

    def run(self, *tensors: torch.Tensor) -> list[Array]:
        """Outputs in order."""
        names = next(self.module.entries()).inputs.data
        inputs = dict(zip(names, map(array_of, tensors), strict=True))
        return list(evaluate(self.module, inputs).values())


Import = Callable[..., Imported]


@pytest.fixture(scope="session")
def imported() -> Import:
    """Export a function or module with example inputs, and import it."""

    def make(
        model: Callable[..., Any],
        *tensors: torch.Tensor,
        shapes: Any = None,
        dims: Mapping[str, Any] | None = None,
    ) -> Imported:
        module = model if isinstance(model, torch.nn.Module) else Calls(model)
        # A function takes its arguments as one: shapes are those of each of them.
        wanted = (tuple(shapes),) if shapes is not None and module is not model else shapes
        made = import_program(exported(module, tensors, dynamic_shapes=wanted), dims)
        made.ir.verify()
        return Imported(made)

    return make

"""``torch.compile(model, backend="tapeout")``: a backend of Dynamo, found by its entry point.

Dynamo hands over a graph that takes the model's own parameters as inputs. They become constants
of the program; one that is changed later has the graph compiled anew. Sizes that Dynamo keeps open
stay open.
"""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import _guards, fx

from tapeout.frontend import driver
from tapeout.ir.errors import CompileError
from tapeout.runtime.program import Program, load

Run = Callable[..., tuple[torch.Tensor, ...]]


def backend(graph: fx.GraphModule, examples: Sequence[Any]) -> Run:
    """Compile a graph for this machine's CPU.

    Errors: E0402 where gradients are wanted or an input is not on the CPU, and what
    ``tapeout.compile`` refuses.
    """
    _check(examples)
    held = _Held(graph, examples)
    program, versions = _compiled(held), held.versions()

    def run(*given: Any) -> tuple[torch.Tensor, ...]:
        nonlocal program, versions
        if versions != held.versions():
            program, versions = _compiled(held), held.versions()
        tensors = (given[i].detach().contiguous() for i in held.tensors)
        inputs = {p.name: t for p, t in zip(program.inputs, tensors, strict=True)}
        return tuple(torch.from_numpy(y) for y in program.run(inputs).values())

    return run


class _Held(torch.nn.Module):
    """The graph as a function of its tensors alone: parameters are held, sizes are read off."""

    def __init__(self, graph: fx.GraphModule, examples: Sequence[Any]) -> None:
        super().__init__()
        self.graph, self.count = graph, len(examples)
        self.fixed = {i: x for i, x in enumerate(examples) if _is_fixed(x)}
        self.tensors = [
            i for i, x in enumerate(examples) if isinstance(x, torch.Tensor) and i not in self.fixed
        ]
        nodes = [n for n in graph.graph.nodes if n.op == "placeholder"]
        shapes = {i: nodes[i].meta["example_value"].shape for i in self.tensors}
        places = {str(n): (i, axis) for i, shape in shapes.items() for axis, n in enumerate(shape)}
        self.sizes = {
            i: places[str(x)] for i, x in enumerate(examples) if isinstance(x, torch.SymInt)
        }
        self.examples = tuple(examples[i].detach() for i in self.tensors)
        self.open = tuple(
            {a: torch.export.Dim.AUTO for a, n in enumerate(shapes[i]) if not isinstance(n, int)}
            for i in self.tensors
        )

    def versions(self) -> tuple[int, ...]:
        """What changes whenever a held tensor does."""
        return tuple(x._version for x in self.fixed.values())

    def forward(self, *tensors: torch.Tensor) -> Any:
        """The graph's results."""
        given = dict(zip(self.tensors, tensors, strict=True)) | self.fixed
        for i, (tensor, axis) in self.sizes.items():
            given[i] = given[tensor].shape[axis]
        return self.graph(*(given[i] for i in range(self.count)))


def _is_fixed(x: Any) -> bool:
    """Whether a graph's input is a tensor of the model itself."""
    return getattr(x, "_dynamo_static_input_type", None) is not None


def _check(examples: Sequence[Any]) -> None:
    tensors = [x for x in examples if isinstance(x, torch.Tensor)]
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        raise CompileError(
            "E0402",
            "gradients are wanted, and programs only infer",
            [("inputs", len(tensors))],
            "call the model inside `with torch.inference_mode():`",
        )
    others = sorted({str(x.device) for x in tensors if x.device.type != "cpu"})
    if others:
        raise CompileError(
            "E0402",
            "a tensor is not on the CPU",
            [("devices", ", ".join(others))],
            "move the model and its inputs there: model.cpu()",
        )


def _compiled(held: _Held) -> Program:
    with tempfile.TemporaryDirectory() as folder, _guards.tracing(None):
        path = Path(folder) / "graph.tapeout"
        # A program that is loaded keeps its file mapped.
        driver.compile(held, "cpu", output=path, args=held.examples, dynamic_shapes=(held.open,))
        return load(path)

"""Whatever a user brings becomes an ``nn`` module: each kind of model by its importer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module

Dims = Mapping[str, int | tuple[int, int]]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """What a torch module is exported with: inputs, and which of their axes are dynamic."""

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None

    def __bool__(self) -> bool:
        return bool(self.args or self.kwargs or self.dynamic_shapes)


def import_any(
    model: Any, dims: Dims | None = None, note: Note = lambda _: None, example: Example = Example()
) -> Module:
    """The ``nn`` module of a model; ``dims`` are sizes and ranges of its open dimensions.

    Raises CompileError: E0404 for a kind without an importer, E0104 for an example where there
    is nothing to export, and whatever the importers refuse.
    """
    note("reading the model")
    if _is_torch(model):
        return _from_torch(model, dims, note, example)
    if example:
        raise CompileError(
            "E0104",
            "args, kwargs and dynamic_shapes are for a torch module",
            [("model", type(model).__name__)],
            "leave them out: this model says its inputs itself",
        )
    return _from_onnx(model, dims, note)


def _is_torch(model: Any) -> bool:
    if isinstance(model, str | os.PathLike):
        return Path(os.fspath(model)).suffix == ".pt2"
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def _from_torch(model: Any, dims: Dims | None, note: Note, example: Example) -> Module:
    try:
        from tapeout.frontend.aten.export import Exported, exported, loaded
        from tapeout.frontend.aten.importer import import_program
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise CompileError(
            "E0605", "torch is not installed", [], "pip install 'tapeout[torch]'"
        ) from error
    import torch

    if isinstance(model, torch.nn.Module):
        note("exporting")
        made = exported(model, example.args, example.kwargs, example.dynamic_shapes)
    elif isinstance(model, torch.export.ExportedProgram):
        made = Exported(model)
    else:
        made = loaded(model)
    note(f"importing {len(made.program.graph.nodes)} nodes")
    return import_program(made, dims)


def _from_onnx(model: Any, dims: Dims | None, note: Note) -> Module:
    import onnx

    from tapeout.frontend.onnx.importer import import_model
    from tapeout.frontend.onnx.load import load_model

    if isinstance(model, str | os.PathLike):
        model = str(Path(cast("os.PathLike[str]", model)))
    elif not isinstance(model, bytes | onnx.ModelProto):
        raise CompileError(
            "E0404",
            f"a {type(model).__module__}.{type(model).__name__} has no importer",
            [],
            "give an ONNX model, a .pt2 file, an ExportedProgram or a torch module",
        )
    checked = load_model(model)
    note(f"importing {len(checked.graph.nodes)} nodes")
    return import_model(checked, dims)

"""Whatever a user brings becomes an ``nn`` module: each kind of model by its importer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.cache.page_caches import PageCaches
from tapeout.passes.manager import run
from tapeout.passes.pipeline import PIPELINE

Dims = Mapping[str, int | tuple[int, int]]
Note = Callable[[str], None]
Cache = Literal["auto", "pages", "inputs"]
"""Where past keys and values of an ONNX decoder go: ``pages`` of a session, or ``inputs`` and
outputs as in the file; ``auto`` is pages where inputs have the names that exporters give."""


@dataclass(frozen=True)
class Decoding:
    """How a language model becomes a program that decodes.

    ``hidden``: with hidden states as an output; ``medusa``: and what heads in this file guess;
    ``exits``: numbers of layers behind which tokens may leave.
    """

    cache: Cache = "auto"
    hidden: bool = False
    medusa: Path | None = None
    exits: Sequence[int] = ()

    @property
    def of_transformers(self) -> bool:
        """Whether something is asked for that only models of ``transformers`` have."""
        return bool(self.hidden or self.medusa or self.exits)


@dataclass(frozen=True)
class Example:
    """What a torch module is exported with: inputs, and which of their axes are dynamic."""

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None

    def __bool__(self) -> bool:
        return bool(self.args or self.kwargs or self.dynamic_shapes)


def import_any(
    model: Any,
    dims: Dims | None = None,
    note: Note = lambda _: None,
    example: Example = Example(),
    decoding: Decoding = Decoding(),
) -> Module:
    """The ``nn`` module of a model; ``dims`` are sizes and ranges of its open dimensions.

    Raises CompileError: E0404 for a kind without an importer, E0104 for an example where there
    is nothing to export, and whatever the importers refuse.
    """
    note("reading the model")
    if _is_torch(model):
        return _from_torch(model, dims, note, example, decoding)
    if example:
        raise CompileError(
            "E0104",
            "args, kwargs and dynamic_shapes are for a torch module",
            [("model", type(model).__name__)],
            "leave them out: this model says its inputs itself",
        )
    if decoding.of_transformers:
        raise _not_of_transformers(model)
    return _from_onnx(model, dims, note, decoding.cache)


def _is_torch(model: Any) -> bool:
    path = _path_of(model)
    if path is not None:
        return path.suffix == ".pt2" or _is_checkpoint(path)
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def _from_torch(
    model: Any, dims: Dims | None, note: Note, example: Example, decoding: Decoding
) -> Module:
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

    path = _path_of(model)
    if path is not None and _is_checkpoint(path):
        from tapeout.frontend.llm.checkpoint import model_of

        model = model_of(path)
    if _is_causal(model) and not example:
        from tapeout.frontend.llm.export import exported_step

        note("exporting")
        made = exported_step(model, decoding.hidden, decoding.medusa, decoding.exits)
    elif decoding.of_transformers:
        raise _not_of_transformers(model)
    elif isinstance(model, torch.nn.Module):
        note("exporting")
        made = exported(model, example.args, example.kwargs, example.dynamic_shapes)
    elif isinstance(model, torch.export.ExportedProgram):
        made = Exported(model)
    else:
        assert path is not None, "what is no module and no program is a file"
        made = loaded(path)
    note(f"importing {len(made.program.graph.nodes)} nodes")
    return import_program(made, dims)


def _not_of_transformers(model: Any) -> CompileError:
    return CompileError(
        "E0104",
        "hidden states, Medusa heads and exits are for a language model of transformers",
        [("model", type(model).__name__)],
        "give its checkpoint, or have the module return them",
    )


def _path_of(model: Any) -> Path | None:
    """The path of a model that is one."""
    return Path(model) if isinstance(model, str | os.PathLike) else None  # type: ignore[arg-type]


def _is_checkpoint(path: Path) -> bool:
    """Whether a path is a folder as ``transformers`` saves a model."""
    return (path / "config.json").is_file()


def _is_causal(model: Any) -> bool:
    """Whether a module is a language model of ``transformers`` that generates text."""
    return hasattr(model, "prepare_inputs_for_generation") and not getattr(
        model.config, "is_encoder_decoder", False
    )


def _from_onnx(model: Any, dims: Dims | None, note: Note, cache: Cache) -> Module:
    import onnx

    from tapeout.frontend.merged_decoder import check_graphs
    from tapeout.frontend.onnx.decoder import is_decoder, is_merged
    from tapeout.frontend.onnx.importer import import_model
    from tapeout.frontend.onnx.load import load_model

    path = _path_of(model)
    if path is not None:
        source = str(path)
    elif isinstance(model, bytes | onnx.ModelProto):
        source = model
    else:
        raise CompileError(
            "E0404",
            f"a {type(model).__module__}.{type(model).__name__} has no importer",
            [],
            "give an ONNX model, a .pt2 file, an ExportedProgram or a torch module",
        )
    checked = load_model(source)
    note(f"importing {len(checked.graph.nodes)} nodes")
    decoder = cache != "inputs" and is_decoder(checked)
    if cache == "pages" and not decoder:
        raise CompileError(
            "E0408",
            "the model has no cache that could be kept in pages",
            [("looked for", "input_ids, and inputs [B, G, S, D] with 'past' in their name")],
            "leave --cache out",
        )
    module = import_model(checked, dims, decoder=decoder)
    if decoder:
        note("moving keys and values into pages")
        run(module, (*PIPELINE["simplify"], PageCaches()))
        if is_merged(checked):
            note("comparing the graphs of the merged decoder")
            check_graphs(checked)
    return module

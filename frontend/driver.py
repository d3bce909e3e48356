"""``compile``: from a model to an artifact, through every layer in its order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.layout.explicit_padding import ExplicitPadding
from tapeout.passes.manager import run
from tapeout.passes.pipeline import LAYOUT, SIMPLIFY
from tapeout.passes.tile.strategies import ROOTS
from tapeout.runtime import artifact
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.device import devices

Dims = Mapping[str, int | tuple[int, int]]


def compile(
    model: Any,
    target: str = "cpu",
    *,
    dims: Dims | None = None,
    output: str | os.PathLike[str],
    format: Literal["file", "dir"] = "file",
) -> Path:
    """Compile a model and write its artifact; returns where.

    ``model``: path of an ONNX file, or an ``onnx.ModelProto``. ``target``: ``cpu`` (this
    machine) or ``cpu:DEVICE``. ``dims`` fixes symbolic dimensions or gives their ranges.
    Raises CompileError, with a code, for whatever a user can mend.
    """
    device = _device(target)
    module = import_any(model, dims)
    run(module, [*SIMPLIFY, *LAYOUT, ExplicitPadding(), Fuse(ROOTS)])
    built = cpu.compile_module(module, device)
    path = Path(output)
    artifact.write(path, built.manifest, built.files, format)
    return path


def import_any(model: Any, dims: Dims | None = None) -> Module:
    """The ``nn`` module of whatever a user brings."""
    return import_model(load_model(model), dims)


def _device(target: str) -> cpu.Device:
    name, _, kind = target.partition(":")
    if name != "cpu":
        raise CompileError("E0101", f"there is no target '{name}'", [("where", "--target"), ("known", "cpu")], "use --target cpu")
    if not kind:
        return cpu.native()
    if kind not in devices():
        raise CompileError(
            "E0101",
            f"there is no device '{kind}' for the target cpu",
            [("where", "--target"), ("known", ", ".join(devices()))],
        )
    return devices()[kind]

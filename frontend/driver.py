"""``compile``: from a model to an artifact, through every layer in its order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tapeout.frontend.calibration import Source
from tapeout.frontend.importing import Cache as Cache
from tapeout.frontend.importing import Decoding, Example, import_any
from tapeout.frontend.importing import Dims as Dims
from tapeout.frontend.importing import Note as Note
from tapeout.frontend.quantizing import Quantizing, Tell, quantizing
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.manager import Pass, run
from tapeout.passes.pipeline import passes
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.targets.choice import Choice
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.gpu import target as gpu
from tapeout.targets.gpu.device import devices as gpu_devices


@dataclass(frozen=True)
class Look:
    """Views of a module on its way: printed after the pass ``print_after`` (``all``: each), and
    written after each to the folder ``dump``."""

    print_after: str | None = None
    dump: Path | None = None


NOTHING = Look()


def compile(
    model: Any,
    target: str = "cpu",
    *,
    dims: Dims | None = None,
    output: str | os.PathLike[str] | None = None,
    format: Literal["file", "dir"] = "file",
    quantize: str | None = None,
    calibrate: Source | None = None,
    max_drop: str | None = None,
    evaluate: Source | None = None,
    sparsify: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    cache: Cache = "auto",
    hidden: bool = False,
    medusa: str | os.PathLike[str] | None = None,
    exits: Sequence[int] = (),
    look: Look = NOTHING,
    note: Note = lambda _: None,
    tell: Tell = lambda _: None,
) -> Path:
    """Compile a model and write its artifact; returns where.

    ``model``: path of an ONNX file or of a ``.pt2``, an ``onnx.ModelProto``, an
    ``ExportedProgram``, or a ``torch.nn.Module``, which is exported with the example inputs
    ``args`` and ``kwargs`` and its ``dynamic_shapes`` (as ``torch.export.export`` takes them). A
    causal language model of ``transformers`` without an example becomes a program for
    ``Program.decoding``, with its keys and values in pages.
    ``target``: ``cpu`` (this machine), ``cpu:DEVICE``, or ``cpu:DEVICE,DEVICE``, of which the
    loader takes the best that fits; ``gpu`` (every architecture), or ``gpu:DEVICE,DEVICE``.
    ``dims`` fixes symbolic dimensions or gives their ranges. ``output`` is the model's name
    with ``.tapeout`` (a folder: without) in the current folder when left out. ``quantize``: a
    format or a file of formats (see passes/quantize); static formats take their scales from the
    samples of ``calibrate``: a folder or file of ``.npz``, or dicts of arrays. ``max_drop``
    (``accuracy=0.5``, see passes/budget) has each layer take one of the formats that ``quantize``
    names (``int8+w4g32``, ``auto``), so that the model, measured on ``evaluate``, loses no more.
    ``cache``: where an ONNX decoder's past keys and values go: into ``pages`` of a session
    (``Program.decoding``), or to ``inputs`` and outputs as in the file; ``auto`` is pages where
    inputs are named as exporters name them. ``hidden``: a language model of ``transformers`` has
    its hidden states as an output (``session.hidden``); ``medusa``: and the guesses of the heads in
    this safetensors file, which ``speculative.Heads`` uses. ``exits``: numbers of layers behind
    which its tokens may leave (``session.decode(tokens, exit=...)``).
    ``sparsify``: which weights become zero (see passes/sparsify). ``look`` shows the module on its
    way; ``note`` is told what is being done, ``tell`` what layers became.

    Raises CompileError, with a code, for whatever a user can mend.
    """
    chosen = choice(target)
    decoding = Decoding(cache, hidden, None if medusa is None else Path(medusa), tuple(exits))
    module = import_any(model, dims, note, Example(args, kwargs, dynamic_shapes), decoding)
    wish = Quantizing(quantize, calibrate, max_drop, evaluate, sparsify, tell=tell)
    lower(module, look, quantizing(module, chosen, wish, note), note=note)
    built = chosen.compile(module, note)
    path = Path(output) if output is not None else _default_output(model, format)
    note(f"writing {path}")
    artifact.write(path, built.manifest, built.files, format)
    return path


def lower(
    module: Module,
    look: Look = NOTHING,
    requested: Sequence[Pass] = (),
    stop_after: str | None = None,
    note: Note = lambda _: None,
) -> None:
    """Run all passes that do not depend on a target, and those that were ``requested``.

    Errors: E0101 for a pass to look at that is not among them.
    """
    chosen = passes(*requested)
    for option, name in (("--print-after", look.print_after), ("--stop-after", stop_after)):
        known = list(dict.fromkeys(p.name for p in chosen))
        if name is not None and name not in (*known, *(["all"] if "print" in option else [])):
            raise CompileError(
                "E0101",
                f"there is no pass '{name}' in this pipeline",
                [("where", option), ("known", ", ".join(known))],
            )
    note("simplifying, choosing layouts and fusing")
    run(module, chosen, print_after=look.print_after, stop_after=stop_after, dump=look.dump)


def choice(target: str) -> Choice:
    """What ``TARGET[:DEVICE,...]`` names; E0101 for what does not exist."""
    name, _, kinds = target.partition(":")
    if name not in TARGETS:
        raise CompileError(
            "E0101",
            f"there is no target '{name}'",
            [("where", "--target"), ("known", ", ".join(TARGETS))],
            "`tapeout targets` lists targets and devices",
        )
    return TARGETS[name](kinds)


def targeted(target: str) -> list[Device]:
    """The devices of CPUs that ``TARGET[:DEVICE,...]`` names; E0101 for others."""
    chosen = choice(target)
    if not isinstance(chosen, cpu.CpuChoice):
        raise CompileError(
            "E0101",
            "this command runs what it compiles, on this machine's CPU",
            [("where", "--target"), ("got", target)],
            "use --target cpu",
        )
    return list(chosen.devices)


def _cpus(kinds: str) -> Choice:
    if not kinds:
        return cpu.CpuChoice([cpu.built_on(machine(), cpu.native(machine(), features()))])
    named = _named("cpu", kinds, devices(), "for this machine")
    return cpu.CpuChoice([cpu.built_on(machine(), device) for device in named])


def _gpus(kinds: str) -> Choice:
    known = gpu_devices()
    chosen = _named("gpu", kinds, known, "for all of them") if kinds else list(known.values())
    return gpu.GpuChoice(chosen, machine())


TARGETS: Mapping[str, Callable[[str], Choice]] = {"cpu": _cpus, "gpu": _gpus}
"""By name: from the names of devices, or none, to a choice of them."""

Named = TypeVar("Named")


def _named(target: str, kinds: str, known: Mapping[str, Named], default: str) -> list[Named]:
    """The devices of a target by name; E0101 for one that does not exist."""
    wanted = dict.fromkeys(kinds.split(","))
    for kind in wanted:
        if kind not in known:
            raise CompileError(
                "E0101",
                f"there is no device '{kind}' for the target {target}",
                [("where", "--target"), ("known", ", ".join(known))],
                f"leave the device out {default}: --target {target}",
            )
    return [known[kind] for kind in wanted]


def _default_output(model: Any, format: str) -> Path:
    stem = Path(os.fspath(model)).stem if isinstance(model, str | os.PathLike) else "model"
    return Path(stem if format == "dir" else f"{stem}.tapeout")

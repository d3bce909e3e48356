"""The GPU target: kernels to tile programs, to Triton, to code objects, and a C program that
launches them, built for the machine that compiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tapeout.ir.errors import CompileError, together
from tapeout.ir.module import Module
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.pays import Rates
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.strategies import lower_kernel
from tapeout.passes.tile.kernel_io import Lowered
from tapeout.passes.tile.strategies import repack
from tapeout.runtime import artifact
from tapeout.targets.gpu.build import Object, build_best, jobs_of, require_triton, source_of
from tapeout.targets.gpu.device import Device
from tapeout.targets.gpu.emit.kernel import KernelText, Part, emit_kernel
from tapeout.targets.gpu.emit.launch import code_text, file_of, launch_text
from tapeout.targets.host import build as host
from tapeout.targets.host.interface import interface_of
from tapeout.targets.host.program import (
    Compiled,
    Program,
    lay_out,
    lower_all,
    manifest,
    plan_program,
    states,
)

PTX = "gpu/ptx"
"""The folder of the PTX that ``tapeout run --emulate`` interprets."""

FUNCTIONS = "gpu/functions.json"
"""What is known of every function of a program: see :func:`functions_text`."""

Objects = Mapping[Device, Mapping[str, Object]]


@dataclass(frozen=True)
class Host:
    """The machine, as ``uname -m``, around the GPU: it runs the C program that launches."""

    machine: str
    compiler: str = "gcc"
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("-ldl",)

    @property
    def label(self) -> str:
        """What a refusal calls it."""
        return f"gpu, on {self.machine}"


def compile_module(
    module: Module,
    chosen: Sequence[Device],
    machine: str,
    note: Callable[[str], None] = lambda _: None,
) -> Compiled:
    """Lower every kernel, compile it for each of the devices, and build the program around.

    ``machine`` is this one. ``note`` is told what is being done. Errors: E0403 with every operator
    that has no strategy, E0601 without Triton or a C compiler.
    """
    around = Host(machine)
    require_triton()
    host.compiler(around)
    note("lowering kernels for gpu")
    module = replace(module, ir=module.ir.clone())
    program, kernels = _program(module)
    parts = [part for kernel in kernels for part in kernel.parts]
    source = source_of(kernels)
    note(f"compiling {len(parts)} functions for {', '.join(d.name for d in chosen)}")
    objects = _objects(source, kernels, chosen)
    check_shared(objects)
    offsets, weights = lay_out(module, program.plan.weights)
    everything = {
        **artifact.c_sources("cuda"),
        "model.c": program.model(offsets, len(weights)).encode(),
        "launch.c": launch_text(kernels, interface_of(program.entry).slots).encode(),
        "code.c": code_text(parts, objects).encode(),
        **{
            file_of(part, device, "cubin"): each.code
            for device, made in objects.items()
            for part, each in made.items()
        },
    }
    note(f"building the program around them with {host.compiler(around)}")
    library = f"gpu/{machine}.so"
    names = ",".join(device.name for device in chosen)
    code = artifact.Code(names, machine, (), library)
    files: dict[str, bytes | memoryview] = {artifact.WEIGHTS: weights} if len(weights) else {}
    files |= states(program)
    files[library] = host.build(everything, around)
    files["gpu/kernels.py"] = source.encode()
    files[FUNCTIONS] = functions_text(kernels, objects).encode()
    files |= {f"{PTX}/{name}": ptx for name, ptx in _oldest_ptx(objects).items()}
    files |= {f"src/{name}": data for name, data in everything.items()}
    return Compiled(manifest("gpu", [program], [code]), files)


def lower_kernels(module: Module) -> dict[str, Lowered]:
    """The tile program of every kernel; E0403 for all that have none, told at once."""
    machine = BlockMachine()
    return lower_all(module, lambda kernel, constants: lower_kernel(kernel, machine, constants))


def _program(module: Module) -> tuple[Program, list[KernelText]]:
    entry = next(iter(module.entries()))
    lowered = lower_kernels(module)
    repack(module, entry, lowered)
    kernels = emit_kernels(lowered)
    return plan_program(module, entry, lowered, kernels), kernels


def emit_kernels(lowered: Mapping[str, Lowered]) -> list[KernelText]:
    """Every program in Triton; E0403 for what has no form there, told at once."""
    programs = [p for low in lowered.values() for p in (low.count, low.program) if p is not None]
    made: list[KernelText] = []
    refused: dict[str, CompileError] = {}
    for program in programs:
        try:
            made.append(emit_kernel(program))
        except CompileError as error:
            refused.setdefault(str(error), error)
    if refused:
        raise together(list(refused.values()), "the model has kernels that the target cannot run")
    return made


def _objects(source: str, kernels: Sequence[KernelText], chosen: Sequence[Device]) -> Objects:
    jobs = jobs_of(kernels, [device.architecture for device in chosen])
    made = {(each.job.arch, each.job.part): each for each in build_best(source, jobs)}
    return {
        device: {part: each for (arch, part), each in made.items() if arch == device.architecture}
        for device in chosen
    }


def check_shared(objects: Objects) -> None:
    """E0403 for functions that take more shared memory than an architecture has."""
    refused = [
        CompileError(
            "E0403",
            f"a kernel needs more shared memory than {device.label} has",
            [("kernel", part), ("needed", each.shared), ("got", device.shared_bytes)],
            "report this, with the model, or compile for another device",
        )
        for device, made in objects.items()
        for part, each in made.items()
        if each.shared > device.shared_bytes
    ]
    if refused:
        raise together(refused, "the model has kernels that the target cannot run")


def _oldest_ptx(objects: Objects) -> dict[str, bytes]:
    """The PTX for the oldest architecture, by file: what ``tapeout run --emulate`` interprets."""
    oldest = min(objects, key=lambda device: device.architecture)
    return {
        file_of(part, oldest, "ptx"): each.ptx.encode() for part, each in objects[oldest].items()
    }


def functions_text(kernels: Sequence[KernelText], objects: Objects) -> str:
    """JSON: of every function its kernel, programs, arguments, and its code by architecture.

    An argument that is a buffer has its bytes and what the function does with it. Sizes are
    expressions of the dimensions among the arguments. Of code there is the SHA-256 and size, the
    warps and bytes of shared memory of a program, and the registers and spilled bytes of a thread.
    """
    rows = [
        {
            "name": part.name,
            "kernel": kernel.name,
            "computes": kernel.title,
            "programs": str(part.programs),
            "arguments": [_argument(name, kind, part) for name, kind in part.signature.items()],
            "code": {d.name: _evidence(made[part.name]) for d, made in objects.items()},
        }
        for kernel in kernels
        for part in kernel.parts
    ]
    return json.dumps(rows, indent=1) + "\n"


def _argument(name: str, kind: str, part: Part) -> dict[str, object]:
    if name in part.dims:
        return {"name": name, "type": kind, "size": part.dims[name]}
    use = part.uses[name]
    return {
        "name": name,
        "type": kind,
        "bytes": str(use.bytes),
        "reads": use.reads,
        "writes": use.writes,
        "scratch": use.scratch,
        "begins": use.begins,
    }


def _evidence(made: Object) -> dict[str, object]:
    return {
        "sha256": hashlib.sha256(made.code).hexdigest(),
        "bytes": len(made.code),
        "warps": made.job.warps,
        "shared_bytes": made.shared,
        "registers": made.registers,
        "spilled_bytes": made.spilled,
    }


@dataclass(frozen=True)
class GpuChoice:
    """Architectures, and this machine: see :class:`tapeout.targets.choice.Choice`."""

    devices: Sequence[Device]
    machine: str
    unit: str = "one GPU"

    @property
    def labels(self) -> Sequence[str]:
        """The devices, as ``--target`` takes them."""
        return [device.label for device in self.devices]

    @property
    def rates(self) -> Rates:
        """Those of the latest of them."""
        return max(self.devices, key=lambda device: device.architecture).rates

    @property
    def passes(self) -> Sequence[Pass]:
        """None."""
        return ()

    def checks(self, module: Module) -> Sequence[Callable[[], object]]:
        """Kernels without a strategy or a form, and compilers that are missing."""
        around = partial(host.compiler, Host(self.machine))
        return [lambda: emit_kernels(lower_kernels(module)), require_triton, around]

    def compile(self, module: Module, note: Callable[[str], None]) -> Compiled:
        """:func:`compile_module`."""
        return compile_module(module, self.devices, self.machine, note)

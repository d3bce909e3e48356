"""The CPU target: kernels to tile programs, to C, to shared objects, to an artifact."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapeout import __version__
from tapeout.ir.expr import Expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp
from tapeout.passes.memory.arena import Arena, place
from tapeout.passes.memory.plan import Plan, make_plan
from tapeout.passes.tile.kernel_io import Machine
from tapeout.passes.tile.strategies import constant_operands, lower_kernel, repack
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.targets.cpu.build import build, sources
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.cpu.emit.kernel import KernelText, emit_kernel
from tapeout.targets.cpu.emit.model import Interface, emit_model, emit_model_h, interface_of

WEIGHT_ALIGN = 64


@dataclass(frozen=True)
class Compiled:
    """What compiling for the CPU gives: the manifest and the files of the artifact."""

    manifest: artifact.Manifest
    files: Mapping[str, bytes | memoryview]


def native() -> Device:
    """The best device that this machine is."""
    have, kind = features(), machine()
    known = devices()
    for name in ("avx512", "avx2", "neon"):
        device = known[name]
        if device.machine == kind and have.issuperset(device.features):
            return device
    return known["generic"]


def compile_module(module: Module, device: Device) -> Compiled:
    """Lower every kernel, plan memory, print C, build it, and lay out the artifact."""
    entry = next(iter(module.entries()))
    shape = Machine(device.lanes, device.tile_m, device.tile_n, device.l1_bytes, device.l2_bytes)
    face = interface_of(entry)
    constants = constant_operands(module)
    programs = {n: lower_kernel(k, shape, constants[n]) for n, k in module.kernels().items()}
    repack(module, entry, programs)
    kernels = [emit_kernel(p.program, device, face.slots) for p in programs.values()]
    plan = make_plan(module, entry, {k.name: _extra_buffers(k) for k in kernels})
    arena = place(plan.arena) if all(b.bytes.constant is not None for b in plan.arena) else None
    offsets, weights = lay_out(module, plan.weights)
    generated = {
        "model.h": emit_model_h(kernels),
        "model.c": emit_model(plan, face, kernels, arena, offsets, len(weights)),
        **{f"{k.name}.c": k.source for k in kernels},
    }
    everything = sources(generated)
    code = build(everything, device)
    files: dict[str, bytes | memoryview] = {
        f"cpu/{device.name}.so": code,
        **{f"src/{n}": data for n, data in everything.items()},
    }
    if len(weights):
        files[artifact.WEIGHTS] = weights
    return Compiled(manifest(entry, face, kernels, device, arena), files)


def _extra_buffers(kernel: KernelText) -> Sequence[Expr]:
    """Arena buffers of a kernel: shared scratch, then one copy per thread of symbolic scratch."""
    threads = symbol("_threads", 1)
    return [*kernel.scratch.shared, *(size * threads for size in kernel.scratch.per_thread)]


def lay_out(module: Module, symbols: Sequence[str]) -> tuple[dict[str, int], memoryview]:
    """Offsets of weights and the bytes of ``weights.bin``; equal weights are stored once."""
    offsets: dict[str, int] = {}
    by_digest: dict[str, int] = {}
    pieces: list[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = []
    total = 0
    for name in symbols:
        digest = module.weights.digest(name)
        if digest not in by_digest:
            array = np.ascontiguousarray(module.weights[name])
            by_digest[digest] = total
            pieces.append((total, array))
            total = -(-(total + array.nbytes) // WEIGHT_ALIGN) * WEIGHT_ALIGN
        offsets[name] = by_digest[digest]
    data = bytearray(total)
    view = np.frombuffer(data, np.uint8)
    for at, array in pieces:
        view[at : at + array.nbytes] = array.view(np.uint8).reshape(-1) if array.ndim else np.frombuffer(array.tobytes(), np.uint8)
    return offsets, memoryview(data)


def manifest(
    entry: EntryOp,
    face: Interface,
    kernels: Sequence[KernelText],
    device: Device,
    arena: Arena | None,
) -> artifact.Manifest:
    """The manifest of a one-device artifact."""

    def port(name: str, dims: Sequence[Expr], dtype: str) -> artifact.Port:
        sizes = tuple(d.constant if d.constant is not None else str(d) for d in dims)
        return artifact.Port(name, dtype, sizes)

    return artifact.Manifest(
        model=entry.sym_name.data,
        target="cpu",
        inputs=tuple(port(n, t.dims, t.dtype.name) for n, t in face.inputs),
        outputs=tuple(port(n, t.dims, t.dtype.name) for n, t in face.outputs),
        code=(
            artifact.Code(device.name, device.machine or platform.machine(), device.features, f"cpu/{device.name}.so"),
        ),
        symbols=tuple(artifact.Symbol(n, lo, hi) for n, lo, hi in face.symbols),
        kernels=tuple(artifact.Kernel(k.name) for k in kernels),
        arena_bytes=arena.bytes if arena is not None else 0,
        generator=f"tapeout {__version__}",
    )

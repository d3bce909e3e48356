"""The CPU target: kernels to tile programs, to C, to shared objects, to an artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from tapeout import __version__
from tapeout.ir.cost import cost_of, kernel_cost
from tapeout.ir.dtypes import DTYPES
from tapeout.ir.errors import CompileError, together
from tapeout.ir.expr import Expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, KernelOp
from tapeout.ir.tile.ops import buffer_of
from tapeout.passes.memory.arena import Arena, place
from tapeout.passes.memory.plan import Needs, make_plan
from tapeout.passes.memory.steps import CheckStep, Plan
from tapeout.passes.sparsify.encode_products import EncodeProducts
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.sparse import VECTORS
from tapeout.passes.tile.strategies import NoStrategy, constant_operands, lower_kernel, repack
from tapeout.runtime import artifact
from tapeout.targets.cpu.build import build, compiler, sources
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.cpu.emit.interface import Interface, interface_of
from tapeout.targets.cpu.emit.kernel import KernelText, emit_kernel
from tapeout.targets.cpu.emit.model import emit_model

WEIGHT_ALIGN = 64
SHOWN_NODES = 5
"""Nodes of the model that a refusal names."""


@dataclass(frozen=True)
class Compiled:
    """What compiling for the CPU gives: the manifest and the files of the artifact."""

    manifest: artifact.Manifest
    files: Mapping[str, bytes | memoryview]


def native(machine: str, features: Set[str]) -> Device:
    """The best device for a ``machine`` (as ``uname -m``) whose CPU has ``features``."""
    fitting = [
        d for d in devices().values() if d.machine == machine and features >= set(d.features)
    ]
    return best_first([*fitting, devices()["generic"]])[0]


def best_first(chosen: Sequence[Device]) -> list[Device]:
    """Devices in the order in which the loader tries them: what asks most of the CPU first."""
    return sorted(chosen, key=lambda d: (-len(d.features), not d.machine, d.name))


def built_on(machine: str, device: Device) -> Device:
    """The device as the system's own compiler builds it: portable C becomes this machine's code."""
    return device if device.machine else replace(device, machine=machine)


@dataclass(frozen=True)
class Form:
    """The program for one device: kernels as C, memory planned, weights named in ``module``."""

    device: Device
    module: Module
    entry: EntryOp
    kernels: Sequence[KernelText]
    plan: Plan
    arena: Arena | None


def encoding(chosen: Sequence[Device]) -> EncodeProducts:
    """The pass that leaves zeros out, where each of the devices gains by it."""
    return EncodeProducts(
        max(d.sparse_i8_break_even for d in chosen),
        max(d.sparse_f32_break_even for d in chosen),
        max(VECTORS * d.lanes for d in chosen),
    )


def compile_module(
    module: Module, chosen: Sequence[Device], note: Callable[[str], None] = lambda _: None
) -> Compiled:
    """Lower every kernel, plan memory, print C, build it, and lay out the artifact.

    A device that is of no machine (portable C) must have been given one: see ``built_on``.
    Each device gets a form of its own; they share ``weights.bin``, where what they pack alike is
    stored once. ``note`` is told what is being done. E0403 lists every operator without a
    strategy.
    """
    forms: list[Form] = []
    for device in best_first(chosen):
        compiler(device)  # a missing compiler is told before the work, not after it
    for device in best_first(chosen):
        note(f"lowering kernels for cpu:{device.name}")
        forms.append(_form(replace(module, ir=module.ir.clone()), device))
    symbols = dict.fromkeys(s for form in forms for s in form.plan.weights)
    offsets, weights = lay_out(module, list(symbols))
    files: dict[str, bytes | memoryview] = {artifact.WEIGHTS: weights} if len(weights) else {}
    files |= _states(forms[0])
    for form in forms:
        everything = sources(_generated(form, offsets, len(weights)))
        note(f"building {len(form.kernels)} kernels with {compiler(form.device)}")
        files[f"cpu/{form.device.name}.so"] = build(everything, form.device)
        folder = "src" if len(forms) == 1 else f"src/{form.device.name}"
        files.update({f"{folder}/{name}": data for name, data in everything.items()})
    return Compiled(manifest(forms), files)


def lower_kernels(module: Module, device: Device) -> dict[str, Lowered]:
    """The tile program of every kernel; E0403 for all that have none, told at once."""
    shape = Machine(
        device.lanes,
        device.tile_m,
        device.tile_n,
        device.l1_bytes,
        device.l2_bytes,
        frozenset(DTYPES[name] for name in device.pairs),
        device.looked_up_bits,
    )
    constants = constant_operands(module)
    lowered: dict[str, Lowered] = {}
    refused: dict[str, CompileError] = {}
    for name, kernel in module.kernels().items():
        try:
            lowered[name] = lower_kernel(kernel, shape, constants[name])
        except CompileError as error:
            if isinstance(error, NoStrategy):
                error.facts = [*error.facts, ("nodes", _origins(module, kernel, error.operators))]
            refused.setdefault(str(error), error)
    if refused:
        raise together(list(refused.values()), "the model has kernels that the target cannot run")
    return lowered


def _origins(module: Module, kernel: KernelOp, operators: Sequence[str]) -> str:
    """The model's nodes behind operators; behind all of a kernel for those that passes made."""
    known = [name for name in operators if module.origins.get(name)]
    names = known or list(dict.fromkeys(op.name for op in kernel.body.block.ops))
    nodes = list(dict.fromkeys(n for name in names for n in module.origins.get(name, [])))
    more = f" and {len(nodes) - SHOWN_NODES} more" if len(nodes) > SHOWN_NODES else ""
    return ", ".join(nodes[:SHOWN_NODES]) + more or f"made by passes, in {kernel.sym_name.data}"


def _form(module: Module, device: Device) -> Form:
    entry = next(iter(module.entries()))
    programs = lower_kernels(module, device)
    repack(module, entry, programs)
    slots = interface_of(entry).slots
    kernels = [
        emit_kernel(program, device, slots)
        for lowered in programs.values()
        for program in (lowered.count, lowered.program)
        if program is not None
    ]
    texts = {k.name: k for k in kernels}
    plan = make_plan(module, entry, {n: _needs(p, n, texts) for n, p in programs.items()})
    arena = place(plan.arena) if all(b.bytes.constant is not None for b in plan.arena) else None
    return Form(device, module, entry, kernels, plan, arena)


def _generated(form: Form, offsets: Mapping[str, int], weight_bytes: int) -> dict[str, str]:
    face, kernels = interface_of(form.entry), form.kernels
    return {
        "model.c": emit_model(form.plan, face, kernels, form.arena, offsets, weight_bytes),
        **{f"{k.name}.c": k.source for k in kernels},
    }


def _needs(lowered: Lowered, name: str, texts: Mapping[str, KernelText]) -> Needs:
    """What the programs of a kernel take besides its operands and results."""
    scratch = _extra_buffers(texts[name])
    count, begins = lowered.count, lowered.program.begun
    if count is None:
        return Needs(scratch, begins=begins)
    made = list(count.body.block.args)[-count.outputs.data :]
    state = [buffer_of(v).bytes for v in made[:-1]]
    return Needs(scratch, _extra_buffers(texts[count.sym_name.data]), state, begins)


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
        view[at : at + array.nbytes] = (
            array.view(np.uint8).reshape(-1)
            if array.ndim
            else np.frombuffer(array.tobytes(), np.uint8)
        )
    return offsets, memoryview(data)


def manifest(forms: Sequence[Form]) -> artifact.Manifest:
    """The manifest of an artifact that holds these forms of one program."""
    first = forms[0]
    face = interface_of(first.entry)
    names = [k.name for k in first.kernels]
    assert all([k.name for k in f.kernels] == names for f in forms), "forms count kernels alike"
    taken = len(face.inputs) - face.states
    total = cost_of(first.module, first.entry.sym_name.data)
    return artifact.Manifest(
        model=first.entry.sym_name.data,
        target="cpu",
        inputs=tuple(_port(n, t.dims, t.dtype.name) for n, t in face.inputs[:taken]),
        outputs=tuple(_port(n, t.dims, t.dtype.name) for n, t in face.outputs),
        code=tuple(_code(form.device) for form in forms),
        symbols=tuple(artifact.Symbol(n, lo, hi) for n, lo, hi in face.symbols),
        states=tuple(
            artifact.State(*_port(n, t.dims, t.dtype.name), _state_file(n, i, first.module))
            for i, (n, t) in enumerate(face.inputs[taken:])
        ),
        needs=tuple(dict.fromkeys(_needed(first.plan))),
        kernels=tuple(_kernel(first.module, name, face) for name in names),
        flops=_size(total.flops, face),
        bytes=_size(total.bytes, face),
        arena_bytes=max(f.arena.bytes if f.arena is not None else 0 for f in forms),
        arena_bound=max(f.arena.bound if f.arena is not None else 0 for f in forms),
        generator=f"tapeout {__version__}",
    )


def _state_file(name: str, number: int, module: Module) -> str:
    return f"states/{number}.bin" if name in module.states else ""


def _states(form: Form) -> dict[str, bytes]:
    """What states hold at first, as files of the artifact."""
    names, states = form.entry.state_names, form.module.states
    return {
        _state_file(n, i, form.module): np.ascontiguousarray(states[n]).tobytes()
        for i, n in enumerate(names)
        if n in states
    }


def _needed(plan: Plan) -> Iterator[artifact.Need]:
    """What a run checks: first what is checked when inputs are bound."""
    late = [(s.guard, s.late) for s in plan.walk() if isinstance(s, CheckStep)]
    for guard, is_late in [*((g, False) for g in plan.guards), *late]:
        yield artifact.Need(guard.text, guard.where, is_late)


def _port(name: str, dims: Sequence[Expr], dtype: str) -> artifact.Port:
    sizes = tuple(d.constant if d.constant is not None else str(d) for d in dims)
    return artifact.Port(name, dtype, sizes)


def _code(device: Device) -> artifact.Code:
    assert device.machine, f"cpu:{device.name} was given no machine"
    return artifact.Code(device.name, device.machine, device.features, f"cpu/{device.name}.so")


def _kernel(module: Module, name: str, face: Interface) -> artifact.Kernel:
    kernel = module.kernels().get(name)
    if kernel is None:  # it counts for the kernel of its name, which bears the cost of both
        return artifact.Kernel(name)
    cost = kernel_cost(kernel)
    return artifact.Kernel(name, _size(cost.flops, face), _size(cost.bytes, face))


def _size(value: Expr, face: Interface) -> int | str:
    """A cost for the manifest; 0, which says unknown, where data decides a size in it."""
    if value.constant is not None:
        return value.constant
    known = {s.name for s in value.symbols()} <= face.slots.keys()
    return str(value) if known else 0

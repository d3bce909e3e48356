"""The CPU target: kernels to tile programs, to C, to shared objects, to an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files

from tapeout.ir.dtypes import DTYPES
from tapeout.ir.module import Module
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.pays import Rates
from tapeout.passes.sparsify.encode_products import EncodeProducts
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.sparse import VECTORS
from tapeout.passes.tile.strategies import lower_kernel, repack
from tapeout.runtime import artifact
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.cpu.emit.kernel import KernelText, emit_kernel
from tapeout.targets.host.build import build, compiler
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

__all__ = ["Compiled", "CpuChoice", "Form", "compile_module", "lower_kernels", "sources"]


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
    """The program for one device, and its kernels as C."""

    device: Device
    program: Program
    kernels: Sequence[KernelText]


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
    programs = [form.program for form in forms]
    symbols = dict.fromkeys(s for program in programs for s in program.plan.weights)
    offsets, weights = lay_out(module, list(symbols))
    files: dict[str, bytes | memoryview] = {artifact.WEIGHTS: weights} if len(weights) else {}
    files |= states(programs[0])
    for form in forms:
        everything = sources(_generated(form, offsets, len(weights)))
        note(f"building {len(form.kernels)} kernels with {compiler(form.device)}")
        files[f"cpu/{form.device.name}.so"] = build(everything, form.device)
        folder = "src" if len(forms) == 1 else f"src/{form.device.name}"
        files.update({f"{folder}/{name}": data for name, data in everything.items()})
    return Compiled(manifest("cpu", programs, [_code(f.device) for f in forms]), files)


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
    return lower_all(module, lambda kernel, constants: lower_kernel(kernel, shape, constants))


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
    return Form(device, plan_program(module, entry, programs, kernels), kernels)


def _generated(form: Form, offsets: Mapping[str, int], weight_bytes: int) -> dict[str, str]:
    kernels = {f"{k.name}.c": k.source for k in form.kernels}
    return {"model.c": form.program.model(offsets, weight_bytes), **kernels}


def prelude() -> dict[str, bytes]:
    """The headers that kernels include, by name."""
    folder = files("tapeout.targets").joinpath("cpu", "prelude")
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.endswith(".h")}


def sources(generated: Mapping[str, str]) -> dict[str, bytes]:
    """Everything that is compiled: generated files, the prelude and the runtime, by name."""
    own = {name: text.encode() for name, text in generated.items()}
    return {**artifact.c_sources(), **prelude(), **own}


def _code(device: Device) -> artifact.Code:
    assert device.machine, f"cpu:{device.name} was given no machine"
    return artifact.Code(device.name, device.machine, device.features, f"cpu/{device.name}.so")


@dataclass(frozen=True)
class CpuChoice:
    """Devices of CPUs that are of a machine: see :class:`tapeout.targets.choice.Choice`."""

    devices: Sequence[Device]
    unit: str = "one core"

    @property
    def labels(self) -> Sequence[str]:
        """The devices, as ``--target`` takes them."""
        return [device.label for device in self.devices]

    @property
    def rates(self) -> Rates:
        """Those of a core of the best of them."""
        return best_first(self.devices)[0].rates

    @property
    def passes(self) -> Sequence[Pass]:
        """Zeros are left out where all of them gain by it."""
        return [encoding(self.devices)]

    def checks(self, module: Module) -> Sequence[Callable[[], object]]:
        """Kernels without a strategy, and compilers that are missing."""
        lowered = [partial(lower_kernels, module, device) for device in self.devices]
        return [*lowered, *(partial(compiler, device) for device in self.devices)]

    def compile(self, module: Module, note: Callable[[str], None]) -> Compiled:
        """:func:`compile_module`."""
        return compile_module(module, self.devices, note)

"""From kernels to an artifact: what targets share whose kernels a C program calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from tapeout import __version__
from tapeout.ir.cost import cost_of, kernel_cost
from tapeout.ir.errors import CompileError, together
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, KernelOp
from tapeout.ir.tile.ops import buffer_of
from tapeout.passes.memory.arena import Arena, place
from tapeout.passes.memory.plan import Needs, make_plan
from tapeout.passes.memory.steps import CheckStep, Plan
from tapeout.passes.tile.kernel_io import Lowered
from tapeout.passes.tile.strategies import NoStrategy, constant_operands
from tapeout.runtime import artifact
from tapeout.targets.host.interface import Interface, interface_of
from tapeout.targets.host.model import HostKernel, emit_model

WEIGHT_ALIGN = 64
SHOWN_NODES = 5
"""Nodes of the model that a refusal names."""


@dataclass(frozen=True)
class Compiled:
    """What compiling gives: the manifest and the files of the artifact."""

    manifest: artifact.Manifest
    files: Mapping[str, bytes | memoryview]


@dataclass(frozen=True)
class Program:
    """Kernels, and memory planned for the steps that call them."""

    module: Module
    entry: EntryOp
    kernels: Sequence[HostKernel]
    plan: Plan
    arena: Arena | None

    def model(self, offsets: Mapping[str, int], weight_bytes: int) -> str:
        """``model.c``; ``offsets`` are places of weights."""
        face = interface_of(self.entry)
        return emit_model(self.plan, face, self.kernels, self.arena, offsets, weight_bytes)


def lower_all(module: Module, lower: Callable[[KernelOp, Set[int]], Lowered]) -> dict[str, Lowered]:
    """The tile program of every kernel; E0403 for all that have none, told at once.

    ``lower`` is given a kernel and the operands of it that are weights.
    """
    constants = constant_operands(module)
    lowered: dict[str, Lowered] = {}
    refused: dict[str, CompileError] = {}
    for name, kernel in module.kernels().items():
        try:
            lowered[name] = lower(kernel, constants[name])
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


def plan_program(
    module: Module, entry: EntryOp, lowered: Mapping[str, Lowered], kernels: Sequence[HostKernel]
) -> Program:
    """Plan the memory of a module whose weights are packed as ``lowered`` wants them."""
    known = {k.name: k for k in kernels}
    plan = make_plan(module, entry, {n: _needs(low, n, known) for n, low in lowered.items()})
    arena = place(plan.arena) if all(b.bytes.constant is not None for b in plan.arena) else None
    return Program(module, entry, kernels, plan, arena)


def _needs(lowered: Lowered, name: str, kernels: Mapping[str, HostKernel]) -> Needs:
    """What the programs of a kernel take besides its operands and results."""
    scratch = kernels[name].extra
    count, begins = lowered.count, lowered.program.begun
    if count is None:
        return Needs(scratch, begins=begins)
    made = list(count.body.block.args)[-count.outputs.data :]
    state = [buffer_of(v).bytes for v in made[:-1]]
    return Needs(scratch, kernels[count.sym_name.data].extra, state, begins)


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


def manifest(
    target: str, forms: Sequence[Program], code: Sequence[artifact.Code]
) -> artifact.Manifest:
    """The manifest of an artifact that holds these forms of one program, built as ``code``."""
    first = forms[0]
    face = interface_of(first.entry)
    names = [k.name for k in first.kernels]
    assert all([k.name for k in f.kernels] == names for f in forms), "forms count kernels alike"
    taken = len(face.inputs) - face.states
    total = cost_of(first.module, first.entry.sym_name.data)
    return artifact.Manifest(
        model=first.entry.sym_name.data,
        target=target,
        inputs=tuple(_port(n, t.dims, t.dtype.name) for n, t in face.inputs[:taken]),
        outputs=tuple(_port(n, t.dims, t.dtype.name) for n, t in face.outputs),
        code=tuple(code),
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


def states(program: Program) -> dict[str, bytes]:
    """What states hold at first, as files of the artifact."""
    names, held = program.entry.state_names, program.module.states
    return {
        _state_file(n, i, program.module): np.ascontiguousarray(held[n]).tobytes()
        for i, n in enumerate(names)
        if n in held
    }


def _needed(plan: Plan) -> Iterator[artifact.Need]:
    """What a run checks: first what is checked when inputs are bound."""
    late = [(s.guard, s.late) for s in plan.walk() if isinstance(s, CheckStep)]
    for guard, is_late in [*((g, False) for g in plan.guards), *late]:
        yield artifact.Need(guard.text, guard.where, is_late)


def _port(name: str, dims: Sequence[Expr], dtype: str) -> artifact.Port:
    sizes = tuple(d.constant if d.constant is not None else str(d) for d in dims)
    return artifact.Port(name, dtype, sizes)


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

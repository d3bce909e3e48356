"""Which kernel of a compiled program computes something else than its operators mean.

The program is compiled once more with the results of every kernel as outputs. Each kernel is
then judged by the reference evaluator *on the operands that the program itself gave it*: a wrong
kernel does not make those wrong that read from it. A branch or a loop is judged as a whole, for
what its kernels compute is nobody's output.

Results that are outputs are no longer in the arena: a fault of the memory plan goes away with
that. So where no kernel parts, the program is compiled as users get it, and its outputs compared.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from tapeout.frontend.agreement import Difference, Tolerance, compare, worst
from tapeout.frontend.side_by_side import (
    beside,
    inside,
    main_entry,
    rounding_step,
    weights_behind,
    weights_read,
)
from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, LoopOp, ReturnOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import StrsAttr, spec
from tapeout.runtime import artifact
from tapeout.runtime.program import load
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.device import Device

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Note = Callable[[str], None]

FEW_NODES = 3
"""Origins are known by kind of operator: of a kind that many nodes made, they say nothing."""

MAX_AXES = 8
"""Axes of an output; a value with more becomes an output as one line."""


@dataclass(frozen=True)
class KernelRow:
    """One kernel call of the compiled program, or a branch or loop, in the order of the text.

    ``weights``: names in the model's file of the weights that it reads, or of those behind what
    it reads, where it has none. ``nodes``: nodes of the model, where few can be meant.
    """

    call: int
    kernel: str
    operators: Sequence[str]
    weights: Sequence[str]
    has_weights: bool
    nodes: Sequence[str]
    difference: Difference
    """That of the result which is furthest off."""


@dataclass(frozen=True)
class KernelFindings:
    """What :func:`bisect_kernels` found.

    ``outputs`` are the program's own. ``suspect`` is the first kernel that parts, if there is one
    and it is no branch or loop.
    """

    device: str
    rows: Sequence[KernelRow]
    outputs: Arrays
    suspect: "Suspect | None"

    @property
    def first(self) -> KernelRow | None:
        """The first kernel that parts from its reference."""
        return next((row for row in self.rows if row.difference.parts), None)


@dataclass(frozen=True)
class Suspect:
    """A kernel that parts: what it was called with, and what it should have given."""

    kernel: str
    operands: Sequence[Array]
    want: Sequence[Array]
    symbols: Mapping[str, int]
    tolerance: Tolerance


def bisect_kernels(
    module: Module, device: Device, inputs: Arrays, tolerance: Tolerance, note: Note
) -> KernelFindings:
    """Compile a fused module with every kernel's results as outputs, run it, and judge each."""
    tapped = replace(module, ir=module.ir.clone())
    outputs = len(main_entry(tapped).returned)
    taps = _tap(main_entry(tapped))
    have = run_compiled(tapped, device, inputs, note)
    names = list(have)
    values = {tap: have[name] for tap, name in zip(taps, names[outputs:], strict=True)}
    judge = _Judge(tapped, tolerance)
    note("judging every kernel")
    beside(tapped, inputs, values, judge)
    own = {name: have[name] for name in names[:outputs]}
    return KernelFindings(device.name, judge.rows, own, judge.suspect)


def run_compiled(module: Module, device: Device, inputs: Arrays, note: Note) -> dict[str, Array]:
    """Outputs by name of a fused module, compiled for a device of this machine."""
    built = cpu.compile_module(module, [device], note)
    with tempfile.TemporaryDirectory(prefix="tapeout-") as folder:
        path = Path(folder, "model.tapeout")
        artifact.write(path, built.manifest, built.files, "file")
        note("running the program")
        with load(path) as program:
            made = program.run(inputs)
    return {name: made[name] for name in main_entry(module).outputs.data}


def _tap(entry: EntryOp) -> list[SSAValue]:
    """Have an entry return the results of its kernels, branches and loops too; these values."""
    block = entry.body.block
    units = [op for op in block.ops if isinstance(op, CallOp | IfOp | LoopOp)]
    taps: list[SSAValue] = [result for op in units for result in op.results]
    end = block.last_op
    assert isinstance(end, ReturnOp), "an entry ends in nn.return"
    shown: list[SSAValue] = []
    for tap in taps:
        flat = ReshapeOp.make(tap, shape=(spec(tap).size,)) if spec(tap).rank > MAX_AXES else None
        if flat is not None:
            Rewriter.insert_op(flat, InsertPoint.before(end))
        shown.append(tap if flat is None else flat.y)
    names = (*entry.outputs.data, *_fresh(entry.outputs.data, len(shown)))
    entry.properties["outputs"] = StrsAttr(names)
    Rewriter.replace_op(end, ReturnOp([*end.values, *shown]))
    return taps


def _fresh(taken: Sequence[str], count: int) -> Iterator[str]:
    """Names that are not ``taken``: those of outputs come from the model's file."""
    prefix = "tap"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    return (f"{prefix}{i}" for i in range(count))


class _Judge:
    """Makes a row of every operator that it is told of."""

    def __init__(self, module: Module, tolerance: Tolerance) -> None:
        self.module, self.tolerance = module, tolerance
        self.rows: list[KernelRow] = []
        self.suspect: Suspect | None = None

    def __call__(
        self, at: Evaluator, op: Operation, want: Sequence[Array], have: Sequence[Array]
    ) -> None:
        """Compare what a kernel gave with what it should have given."""
        operators = list(inside(op, self.module))
        tolerance = replace(self.tolerance, step=rounding_step(operators))
        pairs = enumerate(zip(have, want, strict=True))
        _, found = worst({str(i): compare(a, b, tolerance) for i, (a, b) in pairs})
        kernel = op.callee.data if isinstance(op, CallOp) else op.name
        own = weights_read(op, self.module)
        self.rows.append(
            KernelRow(
                *(len(self.rows), kernel, _kinds(operators)),
                *(own or weights_behind(op, self.module), bool(own)),
                *(_nodes(operators, self.module), found),
            )
        )
        if found.parts and self.suspect is None and isinstance(op, CallOp):
            operands = [at.values[v] for v in op.args]
            self.suspect = Suspect(kernel, operands, want, dict(at.symbols), tolerance)


def _kinds(operators: Sequence[Operation]) -> list[str]:
    """What a kernel is made of: scalar functions by their own names, and each kind once."""
    real = (op for op in operators if not isinstance(op, ConstantOp | WeightOp))
    names = (op.fn.data if isinstance(op, MapOp) else op.name.removeprefix("nn.") for op in real)
    return list(dict.fromkeys(names))


def _nodes(operators: Sequence[Operation], module: Module) -> list[str]:
    """The nodes of the model that an operator of a kernel can come from, where they are few."""
    known = (module.origins.get(name, []) for name in dict.fromkeys(op.name for op in operators))
    nodes = list(dict.fromkeys(node for each in known for node in each))
    return nodes if len(nodes) <= FEW_NODES else []

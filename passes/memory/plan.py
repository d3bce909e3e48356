"""From a module of kernel calls to a list of steps over buffers.

Reshapes cost nothing: their result is the operand's buffer. Everything else that a step writes
is a buffer of its own: an output's, or one in the arena, alive from the step that writes it to
the last one that reads it.

Sizes that data decides. A kernel with an operator of ``DECIDES`` is lowered to two programs
(``kernel_io.Lowered``): ``count`` writes the sizes, and what it found on the way, to buffers of
known size; then the symbols are bound (``BindStep``), the results get memory of their exact size
(``rt_late``, or ``rt_output``), and ``program`` fills them. So no kernel ever writes to a buffer
of an upper bound, and to the kernel that fills, the decided size is a dimension like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from xdsl.ir import SSAValue

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, ReturnOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec


@dataclass(eq=False)
class Buffer:
    """Memory for one value; ``number`` counts within its ``kind``.

    ``first`` and ``last`` are the steps that first write and last read it (arena buffers).
    """

    kind: Literal["input", "output", "weight", "arena"]
    number: int
    bytes: Expr
    symbol: str = ""
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class KernelStep:
    """Call a kernel on buffers: operands, results, then its scratch."""

    kernel: str
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True)
class CopyStep:
    """Copy a buffer that no kernel wrote (an input, a weight) to an output."""

    source: Buffer
    target: Buffer


Step = KernelStep | CopyStep


@dataclass
class Plan:
    """Steps in order and the buffers that they use."""

    steps: list[Step] = field(default_factory=list)
    arena: list[Buffer] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)


def make_plan(module: Module, entry: EntryOp, scratch: dict[str, Sequence[Expr]]) -> Plan:
    """The plan of one entry; ``scratch`` gives the bytes of each kernel's extra buffers."""
    return _Planner(module, entry, scratch).run()


class _Planner:
    def __init__(self, module: Module, entry: EntryOp, scratch: dict[str, Sequence[Expr]]) -> None:
        self.module, self.entry, self.scratch = module, entry, scratch
        self.plan = Plan()
        self.buffers: dict[SSAValue, Buffer] = {}
        self.outputs: dict[SSAValue, int] = {}

    def run(self) -> Plan:
        block = self.entry.body.block
        for i, value in enumerate(block.args):
            self.buffers[value] = Buffer("input", i, spec(value).bytes)
        for i, value in enumerate(self.entry.returned):
            self.outputs.setdefault(self.origin(value), i)
        for op in block.ops:
            match op:
                case WeightOp():
                    # Nobody reads the original of a weight that was packed anew.
                    if op.y.uses:
                        self.buffers[op.y] = self.weight(op)
                case ReshapeOp():
                    self.buffers[op.y] = self.buffers[op.x]
                case CallOp():
                    self.call(op)
                case ReturnOp():
                    self.finish(op)
                case _:
                    raise CompileError(
                        "E0402",
                        f"{op.name} has no lowering to this target yet",
                        fix="see `tapeout explain`",
                    )
        return self.plan

    def origin(self, value: SSAValue) -> SSAValue:
        """The value whose memory a chain of reshapes shows."""
        while isinstance(value.owner, ReshapeOp):
            value = value.owner.x
        return value

    def weight(self, op: WeightOp) -> Buffer:
        symbol = op.symbol.data
        if symbol not in self.plan.weights:
            self.plan.weights.append(symbol)
        return Buffer("weight", self.plan.weights.index(symbol), spec(op.y).bytes, symbol)

    def arena(self, size: Expr) -> Buffer:
        step = len(self.plan.steps)
        buffer = Buffer("arena", len(self.plan.arena), size, first=step, last=step)
        self.plan.arena.append(buffer)
        return buffer

    def read(self, value: SSAValue) -> Buffer:
        buffer = self.buffers[value]
        buffer.last = len(self.plan.steps)
        return buffer

    def call(self, op: CallOp) -> None:
        operands = [self.read(v) for v in op.args]
        results: list[Buffer] = []
        for value in op.results:
            if value in self.outputs:
                results.append(Buffer("output", self.outputs[value], spec(value).bytes))
            else:
                results.append(self.arena(spec(value).bytes))
            self.buffers[value] = results[-1]
        extra = [self.arena(size) for size in self.scratch.get(op.callee.data, ())]
        self.plan.steps.append(KernelStep(op.callee.data, (*operands, *results, *extra)))

    def finish(self, op: ReturnOp) -> None:
        """Outputs that no kernel writes by itself: inputs, weights, and repeated results."""
        for i, value in enumerate(op.values):
            buffer = self.buffers[value]
            if buffer.kind != "output" or buffer.number != i:
                buffer.last = len(self.plan.steps)
                self.plan.steps.append(CopyStep(buffer, Buffer("output", i, buffer.bytes)))

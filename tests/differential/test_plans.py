"""Plans of random graphs, run step by step on marked memory.

Every write marks the bytes with the buffer that it belongs to; every read demands that the marks
are still the buffer's own. So a life that ends too early, two buffers in one place, or a swap
that mixes them up shows, whatever the kernels compute.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tapeout.frontend import driver
from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.module import Module
from tapeout.passes.memory.arena import greedy
from tapeout.passes.memory.plan import make_plan
from tapeout.passes.memory.steps import (
    Buffer,
    CopyStep,
    IfStep,
    KernelStep,
    LoopStep,
    MemoryStep,
    Plan,
    SizesStep,
    Step,
)

UNIT = 64
SYMBOLS = {"N": 5, "M": 9}


@dataclass
class Marks:
    """Memory in units of an alignment, each with the buffer whose content it holds."""

    module: Module
    plan: Plan
    random: np.random.Generator
    arena: dict[int, Buffer] = field(default_factory=dict[int, Buffer])
    late: dict[int, Buffer] = field(default_factory=dict[int, Buffer])
    outputs: dict[int, Buffer] = field(default_factory=dict[int, Buffer])
    reads: int = 0

    def __post_init__(self) -> None:
        sizes = [self.units(b.bytes) * UNIT for b in self.plan.arena]
        lives = [(b.first, b.last) for b in self.plan.arena]
        self.offsets = [o // UNIT for o in greedy(sizes, lives)]
        self.place = list(range(len(self.plan.arena)))

    def units(self, size: Expr) -> int:
        values = {s.name: SYMBOLS.get(s.name, 3) for s in size.symbols()}
        return -(-size.evaluate(values) // UNIT)

    def write(self, buffer: Buffer) -> None:
        match buffer.kind:
            case "arena":
                self.arena |= dict.fromkeys(self.span(buffer), buffer)
            case "late":
                self.late[buffer.number] = buffer
            case "output":
                self.outputs[buffer.number] = buffer
            case _:
                raise AssertionError(f"a step writes to an {buffer.kind}")

    def read(self, buffer: Buffer) -> None:
        self.reads += 1
        match buffer.kind:
            case "arena":
                assert all(self.arena.get(u) is buffer for u in self.span(buffer))
            case "late":
                assert self.late[buffer.number] is buffer
            case "output":
                assert self.outputs[buffer.number] is buffer
            case _:
                pass

    def span(self, buffer: Buffer) -> range:
        start = self.offsets[self.place[buffer.number]]
        return range(start, start + self.units(buffer.bytes))

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case KernelStep():
                    kernel = self.module.kernels()[step.kernel]
                    operands = len(kernel.body.block.args)
                    for buffer in step.buffers[:operands]:
                        self.read(buffer)
                    for buffer in step.buffers[operands:]:
                        self.write(buffer)
                case CopyStep():
                    self.read(step.source)
                    self.write(step.target)
                case SizesStep():
                    self.write(step.target)
                case MemoryStep():
                    self.write(step.buffer)
                case IfStep():
                    self.read(step.condition)
                    self.run(step.then if self.random.random() < 0.5 else step.otherwise)
                case LoopStep():
                    self.loop(step)
                case _:
                    pass

    def loop(self, step: LoopStep) -> None:
        self.read(step.trips)
        self.read(step.condition)
        for _ in range(int(self.random.integers(4))):
            for buffer in (step.counter, step.going):
                if buffer is not None:
                    self.write(buffer)
            self.run(step.body)
            self.read(step.following)
            for a, b in step.swaps:
                self.swap(a, b)
        assert step.count is None or isinstance(step.count, Expr | Symbol)

    def swap(self, a: Buffer, b: Buffer) -> None:
        """The bytes that were the second's are the first's from now on."""
        self.read(b)
        if a.kind == "late":
            self.late[a.number], self.late[b.number] = a, b
            return
        self.place[a.number], self.place[b.number] = self.place[b.number], self.place[a.number]
        self.write(a)
        self.write(b)


def simulated(graphs: Any, seed: int) -> Marks:
    case = graphs.draw(seed, (*graphs.MOVES, *graphs.FLOW * 4))
    module = replace(case.module, ir=case.module.ir.clone())
    driver.lower(module)
    entry = next(module.entries())
    plan = make_plan(module, entry, {})
    marks = Marks(module, plan, np.random.default_rng(seed))
    for _ in range(3):
        marks.run(plan.steps)
    return marks


@pytest.mark.parametrize("seed", range(40))
def test_every_read_finds_what_was_written(graphs: Any, seed: int):
    assert simulated(graphs, seed).reads > 0


def test_a_life_that_ends_too_early_is_noticed(graphs: Any):
    caught = 0
    for seed in range(12):
        case = graphs.draw(seed, graphs.MOVES)
        module = replace(case.module, ir=case.module.ir.clone())
        driver.lower(module)
        plan = make_plan(module, next(module.entries()), {})
        for buffer in plan.arena:
            buffer.life.last = buffer.life.first
        try:
            Marks(module, plan, np.random.default_rng(0)).run(plan.steps)
        except AssertionError:
            caught += 1
    assert caught > 0

"""A program cut into what runs one after the other: nests of parallel loops, and what is between.

Each nest of parallel loops at the top of a program is one function (of a thread pool, of a grid),
with as many tasks as
the nest has iterations; whatever stands between two nests is a function with a single task.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.expr import Expr, ceildiv, product
from tapeout.ir.tile import ops


@dataclass(frozen=True)
class Segment:
    """Consecutive operators that run as one task function; ``loops`` are its parallel nest."""

    body: Sequence[Operation]
    loops: Sequence[ops.ForOp] = ()

    @property
    def trips(self) -> list[Expr]:
        """Iterations of each loop of the nest."""
        return [trips(loop) for loop in self.loops]

    @property
    def tasks(self) -> Expr:
        """Tasks of the function: all iterations of the nest."""
        return product(self.trips)

    @property
    def used(self) -> Set[SSAValue]:
        """Every value that the operators read, inside of loops too."""
        return {v for op in self.body for inner in op.walk() for v in inner.operands}


def trips(loop: ops.ForOp) -> Expr:
    """How often a loop runs."""
    lo, hi, step = loop.range.data
    return ceildiv(hi - lo, step)


def segments(program: ops.ProgramOp) -> list[Segment]:
    """The task functions of a program, in order."""
    found: list[Segment] = []
    for op in program.body.block.ops:
        if isinstance(op, ops.AllocOp):
            continue
        if isinstance(op, ops.ForOp) and op.kind.data == "parallel":
            found.append(Segment([op], _nest(op)))
        elif found and not found[-1].loops:
            found[-1] = Segment([*found[-1].body, op])
        else:
            found.append(Segment([op]))
    return found


def _nest(loop: ops.ForOp) -> list[ops.ForOp]:
    loops = [loop]
    while (inner := _only_parallel(loops[-1].body.block)) is not None:
        loops.append(inner)
    return loops


def _only_parallel(block: Block) -> ops.ForOp | None:
    """The parallel loop that is all a body holds, if so."""
    inside = [op for op in block.ops if not isinstance(op, ops.YieldOp)]
    if len(inside) == 1 and isinstance(inside[0], ops.ForOp) and inside[0].kind.data == "parallel":
        return inside[0]
    return None

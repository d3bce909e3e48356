"""What a plan is made of: buffers with lives, and steps that use them.

Steps form a tree: a branch or a loop holds the steps of its bodies. *Positions* count the steps
in the order in which they are written down; a life is a range of positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.guards import Guard

Kind: TypeAlias = Literal["input", "output", "weight", "arena", "late"]


@dataclass(eq=False)
class Life:
    """The positions that first write and last read a buffer; ``depth`` loops stand around it."""

    first: int = 0
    last: int = 0
    depth: int = 0


@dataclass(eq=False)
class Buffer:
    """Memory for one value; ``number`` counts within its ``kind``.

    ``arena`` buffers have sizes that are known when execution begins. ``late`` ones get memory
    while running; ``number`` is then a slot, which buffers that never live together share.
    """

    kind: Kind
    number: int
    bytes: Expr
    symbol: str = ""
    life: Life = field(default_factory=Life)

    @property
    def first(self) -> int:
        """The position that first writes it."""
        return self.life.first

    @property
    def last(self) -> int:
        """The position that last reads it."""
        return self.life.last


@dataclass(frozen=True)
class KernelStep:
    """Call a kernel on buffers: operands, results, then its scratch."""

    kernel: str
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True)
class CopyStep:
    """Copy bytes; ``loop`` numbers the loop whose iteration's slice of ``target`` it fills."""

    source: Buffer
    target: Buffer
    bytes: Expr
    loop: int | None = None


@dataclass(frozen=True)
class MemoryStep:
    """Give a late buffer, or an output of late size, memory for the sizes as they are now.

    With ``loop``, for one more slice than the iterations that are done, keeping those.
    """

    buffer: Buffer
    bytes: Expr
    loop: int | None = None


@dataclass(frozen=True)
class BindStep:
    """Give symbols values, all at once: from expressions, or from an i64 buffer."""

    symbols: tuple[Symbol, ...]
    values: Buffer | tuple[Expr, ...]


@dataclass(frozen=True)
class SizesStep:
    """Write sizes to an i64 buffer."""

    values: tuple[Expr, ...]
    target: Buffer


@dataclass(frozen=True)
class CheckStep:
    """Refuse to go on when a guard does not hold; ``late``: data decides a size in it."""

    guard: Guard
    late: bool


@dataclass(frozen=True)
class IfStep:
    """One of two lists of steps, by a bool."""

    condition: Buffer
    then: list[Step]
    otherwise: list[Step]


@dataclass(frozen=True)
class LoopStep:
    """Steps repeated while ``i < trips`` and ``condition``, which ``following`` gives anew.

    ``counter`` and ``going`` receive iteration number and condition where the body reads them.
    After an iteration the buffers of each pair in ``swaps`` change places: the body reads the
    first and writes the second. ``count`` is the number of iterations there have to be, or the
    symbol that is bound to it at the end.
    """

    number: int
    trips: Buffer
    condition: Buffer
    counter: Buffer | None
    going: Buffer | None
    body: list[Step]
    following: Buffer
    swaps: tuple[tuple[Buffer, Buffer], ...]
    count: Expr | Symbol | None


Step: TypeAlias = (
    KernelStep | CopyStep | MemoryStep | BindStep | SizesStep | CheckStep | IfStep | LoopStep
)


@dataclass
class Plan:
    """Steps in order and the buffers that they use; ``late`` counts slots.

    ``guards`` must hold between the sizes of the inputs before the first step.
    """

    steps: list[Step] = field(default_factory=list["Step"])
    arena: list[Buffer] = field(default_factory=list[Buffer])
    weights: list[str] = field(default_factory=list[str])
    late: int = 0
    guards: list[Guard] = field(default_factory=list[Guard])

    def checked(self) -> Iterator[Guard]:
        """Every guard that a run checks."""
        yield from self.guards
        yield from (s.guard for s in self.walk() if isinstance(s, CheckStep))

    def walk(self) -> Iterator[Step]:
        """Every step, those inside others too."""
        return walk(self.steps)


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Every step of a list, those inside others too."""
    for step in steps:
        yield step
        match step:
            case IfStep():
                yield from walk(step.then)
                yield from walk(step.otherwise)
            case LoopStep():
                yield from walk(step.body)
            case _:
                pass

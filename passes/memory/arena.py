"""Offsets in the arena for buffers of fixed size: greedy by size, improved by CP-SAT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.passes.memory.steps import Buffer

ALIGN = 64


@dataclass(frozen=True)
class Arena:
    """Offsets in bytes, in the order of the buffers; ``bound`` is what no plan can go below."""

    offsets: tuple[int, ...]
    bytes: int
    bound: int


def place(buffers: Sequence[Buffer]) -> Arena:
    """Place buffers of constant size so that no two that live together overlap."""
    sizes = [-(-int(b.bytes) // ALIGN) * ALIGN for b in buffers]
    lives = [(b.first, b.last) for b in buffers]
    bound = lower_bound(sizes, lives)
    offsets = greedy(sizes, lives)
    total = max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)
    if total > bound:
        better = solve(sizes, lives, total, bound)
        if better is not None:
            offsets = better
            total = max(o + s for o, s in zip(offsets, sizes, strict=True))
    return Arena(tuple(offsets), total, bound)


def lower_bound(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> int:
    """The most bytes alive at any one step."""
    steps = range(max((last for _, last in lives), default=-1) + 1)
    return max(
        (
            sum(s for s, (a, b) in zip(sizes, lives, strict=True) if a <= step <= b)
            for step in steps
        ),
        default=0,
    )


def greedy(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> list[int]:
    """The lowest gap for each buffer, largest first."""
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], lives[i][0])):
        rivals = sorted(
            (j for j in placed if lives[j][0] <= lives[i][1] and lives[i][0] <= lives[j][1]),
            key=lambda j: offsets[j],
        )
        at = 0
        for j in rivals:
            if at + sizes[i] <= offsets[j]:
                break
            at = max(at, offsets[j] + sizes[j])
        offsets[i] = at
        placed.append(i)
    return offsets


def solve(
    sizes: Sequence[int],
    lives: Sequence[tuple[int, int]],
    known: int,
    bound: int,
    seconds: float = 2.0,
) -> list[int] | None:
    """A better placement by CP-SAT within a time limit, or None."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    top = model.new_int_var(bound // ALIGN, known // ALIGN, "top")
    starts: list[cp_model.IntVar] = []
    xs: list[cp_model.IntervalVar] = []
    ys: list[cp_model.IntervalVar] = []
    for i, (size, (first, last)) in enumerate(zip(sizes, lives, strict=True)):
        units = size // ALIGN
        start = model.new_int_var(0, known // ALIGN - units, f"s{i}")
        starts.append(start)
        ys.append(model.new_fixed_size_interval_var(start, units, f"y{i}"))
        xs.append(model.new_fixed_size_interval_var(first, last - first + 1, f"x{i}"))
        model.add(start + units <= top)
    model.add_no_overlap_2d(xs, ys)
    model.minimize(top)
    solver = cp_model.CpSolver()
    # One worker and a fixed seed: the same input must give the same bytes.
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = seconds
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return [solver.value(s) * ALIGN for s in starts]

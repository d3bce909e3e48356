"""Placement: buffers that live together never overlap, in as little memory as can be."""

import itertools

import numpy as np
import pytest

from tapeout.ir.expr import as_expr, symbol
from tapeout.passes.memory.arena import ALIGN, Arena, greedy, lower_bound, place
from tapeout.passes.memory.late import share_slots
from tapeout.passes.memory.steps import Buffer, Life

Sized = tuple[int, int, int]
"""Bytes, first and last position."""


def buffers(*sized: Sized) -> list[Buffer]:
    return [
        Buffer("arena", i, as_expr(size), life=Life(first, last))
        for i, (size, first, last) in enumerate(sized)
    ]


def drawn(seed: int) -> list[Sized]:
    """Chains with skips, as networks have them, of sizes from one byte to a megabyte."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    firsts = [max(0, i - int(random.integers(3))) for i in range(count)]
    spans = random.geometric(0.5, count) * random.choice([1, 1, 1, 10], count)
    sizes = (2 ** (random.random(count) * 20)).astype(int)
    return [(int(n), f, f + int(s)) for n, f, s in zip(sizes, firsts, spans, strict=True)]


def overlaps(arena: Arena, sized: list[Sized]) -> list[tuple[int, int]]:
    """Pairs of buffers that share bytes at the same time."""
    found: list[tuple[int, int]] = []
    for i, j in itertools.combinations(range(len(sized)), 2):
        (n, a, b), (m, c, d) = sized[i], sized[j]
        x, y = arena.offsets[i], arena.offsets[j]
        if a <= d and c <= b and x < y + m and y < x + n:
            found.append((i, j))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_buffers_that_live_together_never_overlap(seed: int):
    sized = drawn(seed)
    arena = place(buffers(*sized))
    assert not overlaps(arena, sized)
    assert all(offset % ALIGN == 0 for offset in arena.offsets)
    tops = [o + n for o, (n, _, _) in zip(arena.offsets, sized, strict=True)]
    assert arena.bound <= arena.bytes
    assert max(tops) <= arena.bytes


def test_the_overlap_that_the_tests_look_for_is_found():
    sized = [(64, 0, 1), (64, 1, 2)]
    assert overlaps(Arena((0, 0), 64, 64), sized) == [(0, 1)]
    assert not overlaps(Arena((0, 64), 128, 128), sized)


def test_the_bound_is_what_lives_at_the_fullest_step():
    assert lower_bound([100, 50, 70], [(0, 1), (1, 2), (2, 3)]) == 150
    assert lower_bound([], []) == 0


def test_two_buffers_of_a_chain_take_turns():
    chain = [(1024, i, i + 1) for i in range(10)]
    assert place(buffers(*chain)).bytes == 2048


def test_a_plan_that_greedy_misses_is_found_by_search():
    units = [(2, 2, 5), (2, 1, 4), (3, 0, 1), (4, 0, 3), (2, 3, 5)]
    sized = [(n * ALIGN, a, b) for n, a, b in units]
    offsets = greedy([n for n, _, _ in sized], [(a, b) for _, a, b in sized])
    assert max(o + n for o, (n, _, _) in zip(offsets, sized, strict=True)) == 11 * ALIGN
    arena = place(buffers(*sized))
    assert arena.bytes == arena.bound == 10 * ALIGN


@pytest.mark.parametrize("seed", range(20))
def test_the_same_buffers_get_the_same_places(seed: int):
    sized = drawn(seed)
    assert place(buffers(*sized)) == place(buffers(*sized))


def test_no_buffers_need_no_memory():
    assert place([]) == Arena((), 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_late_buffers_share_a_slot_only_one_after_the_other(seed: int):
    late = [
        Buffer("late", i, symbol("n"), life=Life(first, last))
        for i, (_, first, last) in enumerate(drawn(seed))
    ]
    slots = share_slots(late)
    assert {b.number for b in late} == set(range(slots))
    for a, b in itertools.combinations(late, 2):
        together = a.first <= b.last and b.first <= a.last
        assert not (together and a.number == b.number)

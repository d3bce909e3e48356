"""The planner of the arena, driven through a C program."""

import itertools
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Build = Callable[..., Path]
Buffers = list[tuple[int, int, int]]  # bytes, first step, last step
Plan = Callable[[Buffers], tuple[int, list[int]]]


@pytest.fixture
def plan(build: Build) -> Plan:
    """``plan(buffers)``: the total and each offset."""
    program = build("mlp.c", "plan.c", ("-fsanitize=address,undefined", "-O1"))

    def planned(buffers: Buffers) -> tuple[int, list[int]]:
        text = "\n".join(f"{size} {first} {last}" for size, first, last in buffers)
        done = subprocess.run([program], input=text, text=True, capture_output=True, check=True)
        total, *offsets = map(int, done.stdout.split())
        return total, offsets

    return planned


def rounded(size: int) -> int:
    return -(-size // 64) * 64


def lower_bound(buffers: Buffers) -> int:
    """The most bytes that live at one step."""
    steps = range(max((last for _, _, last in buffers), default=0) + 1)
    live = (sum(rounded(b) for b, first, last in buffers if first <= s <= last) for s in steps)
    return max(live, default=0)


def best_of_all_orders(buffers: Buffers) -> int:
    """The least total over every order of placing each buffer as low as it can go."""
    best = 1 << 60
    for order in itertools.permutations(buffers):
        placed: list[tuple[int, int, int, int]] = []
        for size, first, last in order:
            rivals = sorted(p for p in placed if p[2] <= last and first <= p[3])
            at = 0
            for offset, top, _, _ in rivals:
                if offset - at >= rounded(size):
                    break
                at = max(at, top)
            placed.append((at, at + rounded(size), first, last))
        best = min(best, max(top for _, top, _, _ in placed))
    return best


def random_buffers(rng: random.Random, count: int, steps: int) -> Buffers:
    buffers: Buffers = []
    for _ in range(count):
        first = rng.randrange(steps)
        last = min(steps - 1, first + rng.choice((0, 1, 1, 2, 3, steps)))
        buffers.append((rng.choice((0, 1, 64, 100, 1000, rng.randrange(1 << 20))), first, last))
    return buffers


@pytest.mark.parametrize("seed", range(40))
def test_no_two_live_buffers_overlap(plan: Plan, seed: int) -> None:
    buffers = random_buffers(random.Random(seed), 60, 40)
    total, offsets = plan(buffers)
    assert lower_bound(buffers) <= total <= sum(rounded(size) for size, _, _ in buffers)
    spans = [(o, o + rounded(b), f, la) for o, (b, f, la) in zip(offsets, buffers, strict=True)]
    for a, b in itertools.combinations(spans, 2):
        together = a[2] <= b[3] and b[2] <= a[3]
        assert not (together and a[0] < b[1] and b[0] < a[1]), (a, b)
    assert all(offset % 64 == 0 for offset in offsets)
    assert max(top for _, top, _, _ in spans) == total


def test_close_to_the_best_order(plan: Plan) -> None:
    rng = random.Random(7)
    found = best = 0
    for _ in range(30):
        buffers = random_buffers(rng, 6, 6)
        found += plan(buffers)[0]
        best += best_of_all_orders(buffers)
    assert best <= found <= 1.02 * best


def test_chain_reaches_the_lower_bound(plan: Plan) -> None:
    """Each step reads the buffer before it: two buffers live at once, whatever their sizes."""
    buffers = [(1000 * (1 + i % 5), i, i + 1) for i in range(50)]
    assert plan(buffers)[0] == lower_bound(buffers)


@pytest.mark.parametrize("size", [-1, 1 << 48, (1 << 63) - 1])
def test_sizes_out_of_bounds_are_refused(plan: Plan, size: int) -> None:
    assert plan([(64, 0, 1), (size, 0, 1)]) == (-1, [])


def test_sum_out_of_bounds_is_refused(plan: Plan) -> None:
    assert plan([(1 << 46, 0, 1)] * 3) == (-1, [])


def test_no_buffers_need_no_memory(plan: Plan) -> None:
    assert plan([]) == (0, [])

"""The solver against every assignment of small problems, and its answer twice."""

import math
from itertools import product

import numpy as np
import pytest

from tapeout.passes.budget.assign import assign, total_noise
from tapeout.passes.budget.options import Option
from tapeout.passes.quantize.formats import parse_format
from tapeout.passes.quantize.pays import Prediction

INT8 = parse_format("int8")


def option(noise: float, cost: int) -> Option:
    return Option(INT8 if noise else None, noise, 0, Prediction(cost * 1e-12, 0))


def drawn(seed: int, layers: int = 5, formats: int = 3) -> list[list[Option]]:
    random = np.random.default_rng(seed)
    return [
        [option(0, 1000)]
        + [
            option(10 ** random.uniform(-5, -1), int(random.integers(100, 1200)))
            for _ in range(formats)
        ]
        for _ in range(layers)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.0, 1e-4, 1e-2, 0.1, 1.0])
def test_no_assignment_within_the_limit_is_cheaper(seed: int, limit: float) -> None:
    options = drawn(seed)
    found = assign(options, limit)
    assert total_noise(found) <= limit
    allowed = [each for each in product(*options) if total_noise(each) <= limit]
    assert cost(found) == min(map(cost, allowed))


def cost(options: "list[Option] | tuple[Option, ...]") -> int:
    return sum(o.cost for o in options)


def test_many_layers_take_little_and_give_the_same_again() -> None:
    options = drawn(7, layers=120, formats=8)
    first = assign(options, 0.05)
    assert [o.noise for o in first] == [o.noise for o in assign(options, 0.05)]
    assert 0 < total_noise(first) <= 0.05


def test_without_noise_everything_stays_f32() -> None:
    assert all(o.format is None for o in assign(drawn(1), 0.0))


def test_noise_is_told_in_decibels_and_equal_times_by_bytes() -> None:
    assert option(1e-3, 1).sqnr == pytest.approx(30)
    assert option(0, 1).sqnr == math.inf
    small, large = (Option(INT8, 0.1, size, Prediction(1e-6, 0)) for size in (10, 20))
    assert small.cost < large.cost

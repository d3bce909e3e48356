"""The cheapest option for every layer, their noise together within a limit: a multiple-choice
knapsack, by CP-SAT.

Noise is added up as if the errors of layers were independent, and each of them were as audible
in the model's output as it is in its layer's. That orders assignments; what one of them costs in
accuracy is measured (:mod:`search`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain

from tapeout.passes.budget.options import Option

NOISE_UNIT = 1e-9
LOUDEST = 10.0
"""An output whose error has ten times its power: what is louder counts as this."""


def assign(
    options: Sequence[Sequence[Option]], noise: float, seconds: float = 10.0
) -> list[Option]:
    """One option of each layer, of least cost in all, whose noise adds up to ``noise`` at most.

    There is always one without noise. ``seconds`` of deterministic time, after which the best
    that was found counts: the same input gives the same answer.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    chosen = [[model.new_bool_var(f"{i} {o.name}") for o in of] for i, of in enumerate(options)]
    for variables in chosen:
        model.add_exactly_one(variables)
    pairs = list(zip(chain(*chosen), chain(*options), strict=True))
    limit = round(noise / NOISE_UNIT)
    model.add(sum(v * _units(o.noise) for v, o in pairs) <= limit)
    model.minimize(sum(v * o.cost for v, o in pairs))
    # A start that holds: f32 everywhere.
    for variable, option in pairs:
        model.add_hint(variable, option.format is None)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = seconds
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE), "f32 everywhere is within any limit"
    return [
        next(o for v, o in zip(vs, of, strict=True) if solver.value(v))
        for vs, of in zip(chosen, options, strict=True)
    ]


def total_noise(options: Iterable[Option]) -> float:
    """The noise of an assignment, as its limit counts it."""
    return sum(_units(o.noise) for o in options) * NOISE_UNIT


def _units(noise: float) -> int:
    return math.ceil(min(noise, LOUDEST) / NOISE_UNIT)

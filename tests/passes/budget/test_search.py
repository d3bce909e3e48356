"""The search keeps a budget, measures little, and says what it found where there is nothing."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from tapeout.ir.errors import CompileError
from tapeout.passes.budget.options import Layered, Option
from tapeout.passes.budget.search import EVALUATIONS, Budget, Search
from tapeout.passes.quantize.formats import parse_format
from tapeout.passes.quantize.layers import Layer
from tapeout.passes.quantize.pays import Prediction
from tapeout.passes.quantize.recipe import Recipe

Formats = Recipe

NAMES = {"int8": 1e-4, "w4g32": 1e-2, "w2g32": 0.3}


def layers(count: int) -> list[Layered]:
    """Layers of many sizes, of which fewer bits are cheaper and louder."""
    random = np.random.default_rng(3)
    found: list[Layered] = []
    for i in range(count):
        time = float(random.uniform(1, 9)) * 1e-6
        options = [Option(None, 0.0, 1000, Prediction(time, 0))]
        for n, (name, noise) in enumerate(NAMES.items()):
            loud = noise * 10 ** float(random.uniform(-2, 0.5))
            options.append(Option(parse_format(name), loud, 100, Prediction(time / (n + 2), 0)))
        found.append(Layered(cast(Layer, Named(f"layer[{i}]")), options, {}))
    return found


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def budget(most: float) -> Budget:
    return Budget(most, lambda drop: drop, f"drop={most}", lambda drop: f"drop {drop:.3g}")


def measured(found: list[Layered], calls: list[Formats]) -> Callable[[Formats], float]:
    """A model whose drop is the square root of its layers' noise."""

    def drop(recipe: Formats) -> float:
        calls.append(recipe)
        noise = 0.0
        for each in found:
            format = recipe.of(each.layer.name)
            noise += next(o.noise for o in each.options if o.format == format)
        return math.sqrt(noise)

    return drop


@pytest.mark.parametrize("most", [0.02, 0.1, 0.4, 0.8, 5.0])
def test_the_budget_is_kept_and_nearly_used(most: float) -> None:
    found, calls = layers(12), list[Formats]()
    best = Search(found, budget(most), measured(found, calls)).run()
    assert best.drop <= most
    assert len(calls) <= EVALUATIONS
    if most < 5:
        assert best.drop > most / 1.6


def test_the_cheapest_of_all_is_measured_once_where_it_will_do() -> None:
    found, calls = layers(12), list[Formats]()
    best = Search(found, budget(100), measured(found, calls)).run()
    assert len(calls) == 1
    assert {o.name for o in best.options} == {"w2g32"}


def test_more_budget_never_costs_more() -> None:
    found = layers(12)
    costs = [
        Search(found, budget(most), measured(found, [])).run().cost for most in (0.02, 0.2, 0.6, 2)
    ]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("drop", [1.0, math.nan])
def test_an_impossible_budget_is_refused_with_what_was_found(drop: float) -> None:
    with pytest.raises(CompileError, match="E0707") as caught:
        Search(layers(4), budget(0.5), lambda _: drop).run()
    text = str(caught.value)
    assert "drop=0.5" in text
    assert f"drop {drop:.3g}, with " in text


def test_layers_without_options_are_told() -> None:
    plain = [Layered(e.layer, e.options[:1], {"int8": "slower: 2 ms"}) for e in layers(2)]
    with pytest.raises(CompileError, match="slower: 2 ms"):
        Search(plain, budget(1), lambda _: 0.0).run()


def test_names_of_layers_are_no_patterns() -> None:
    found: list[Any] = layers(12)
    best = Search(found, budget(0.1), measured(found, [])).run()
    assert len({o.name for o in best.options}) > 1  # layer[1] is not taken for layer1

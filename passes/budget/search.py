"""The cheapest assignment that keeps a budget: assign under a limit of noise, measure, tighten."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from glob import escape

from tapeout.ir.errors import CompileError
from tapeout.passes.budget.assign import assign, total_noise
from tapeout.passes.budget.options import Layered, Option
from tapeout.passes.quantize.recipe import Recipe, Rule

EVALUATIONS = 10
"""Assignments whose accuracy is measured, at most."""
NEAR = 1.05
"""Limits of noise that differ by less than this factor are one."""


@dataclass(frozen=True)
class Budget:
    """What the model may lose: ``loss`` of a measured drop, the worse the higher, up to ``most``.

    ``text`` is how a user wrote it, ``show`` prints a drop.
    """

    most: float
    loss: Callable[[float], float]
    text: str
    show: Callable[[float], str]

    def met(self, drop: float) -> bool:
        """Whether a drop is within the budget; one that is not a number is not."""
        return self.loss(drop) <= self.most


@dataclass(frozen=True)
class Tried:
    """An assignment and what it was measured to lose."""

    options: Sequence[Option]
    drop: float

    @property
    def cost(self) -> int:
        """Of all layers."""
        return sum(o.cost for o in self.options)


@dataclass
class Search:
    """Bisects the limit of noise; every assignment is measured once."""

    layers: Sequence[Layered]
    budget: Budget
    drop_of: Callable[[Recipe], float]
    tried: dict[tuple[str, ...], Tried] = field(default_factory=dict[tuple[str, ...], Tried])

    def run(self) -> Tried:
        """The cheapest assignment found that keeps the budget.

        First the cheapest of all; then limits between the least noise that there is and its noise,
        halved on a scale of dB. Errors: E0707 where none keeps the budget but f32 everywhere.
        """
        loud = self._at(math.inf)
        high = total_noise(loud.options)
        if not self.budget.met(loud.drop) and high > 0:
            noises = [o.noise for each in self.layers for o in each.options if o.noise > 0]
            self._bisect(min(*noises, high), high)
        kept = [t for t in self.tried.values() if self.budget.met(t.drop) and _changed(t.options)]
        if not kept:
            raise self._impossible()
        return min(kept, key=lambda t: t.cost)

    def _bisect(self, low: float, high: float) -> None:
        low /= NEAR  # so that the least noise itself is tried in the end
        for _ in range(4 * EVALUATIONS):
            if len(self.tried) >= EVALUATIONS or high / low < NEAR:
                break
            middle = math.sqrt(low * high)
            met = self.budget.met(self._at(middle).drop)
            low, high = (middle, high) if met else (low, middle)

    def _at(self, noise: float) -> Tried:
        limit = noise if math.isfinite(noise) else sum(self._loudest())
        options = assign([each.options for each in self.layers], limit)
        key = tuple(o.name for o in options)
        if key not in self.tried:
            drop = self.drop_of(recipe_of(self.layers, options)) if _changed(options) else 0.0
            self.tried[key] = Tried(options, drop)
        return self.tried[key]

    def _loudest(self) -> list[float]:
        return [max(total_noise([o]) for o in each.options) for each in self.layers]

    def _impossible(self) -> CompileError:
        measured = [t for t in self.tried.values() if _changed(t.options)]
        facts: list[tuple[str, object]] = [("budget", self.budget.text)]
        if not measured:
            why = next((w for each in self.layers for w in each.barred.values()), "no candidates")
            facts.append(("candidates", f"no layer has one ({why})"))
        else:
            best = min(measured, key=lambda t: _number(self.budget.loss(t.drop)))
            count = sum(o.format is not None for o in best.options)
            text = f"{self.budget.show(best.drop)}, with {count} of {len(best.options)} layers"
            facts.append(("best found", f"{text} quantised"))
            facts.append(("measured", f"{len(measured)} assignments"))
        fix = "allow more, name formats of more bits, or leave --quantize and --max-drop out"
        return CompileError("E0707", "no assignment of formats keeps the budget", facts, fix)


def recipe_of(layers: Sequence[Layered], options: Sequence[Option]) -> Recipe:
    """The assignment as a recipe: a rule for each layer."""
    rules = (
        Rule(escape(each.layer.name), option.format)
        for each, option in zip(layers, options, strict=True)
    )
    return Recipe(None, tuple(rules), "--max-drop")


def _changed(options: Sequence[Option]) -> bool:
    return any(o.format is not None for o in options)


def _number(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss

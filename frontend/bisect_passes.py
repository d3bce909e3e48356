"""Which pass changes what a model computes: the module is evaluated after each.

Every pass is compared with the module before it changed anything, until one parts from that, or
is one that the user asked for and that rounds on purpose: what comes after is compared with the
module after that one. So each pass is charged with its own errors, and small ones add up.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapeout.frontend.agreement import Difference, Tolerance, compare, worst
from tapeout.frontend.side_by_side import beside, main_entry, rounding_step, watched
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.passes.manager import Pass, PassFailed, run
from tapeout.passes.quantize.layers import layers

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class PassRow:
    """One pass that ran: seconds it took, and what it did to the outputs.

    ``asked``: it is a pass that the user asked for, which changes values on purpose. ``output``
    is the one furthest off; both it and ``difference`` are None where the module stayed as it
    was, which is then not evaluated again.
    """

    name: str
    seconds: float
    asked: bool
    output: str | None = None
    difference: Difference | None = None

    @property
    def parts(self) -> bool:
        """Whether it changes an output by more than is allowed, without being asked to."""
        return self.difference is not None and self.difference.parts and not self.asked


@dataclass(frozen=True)
class LayerRow:
    """What a pass that rounds costs one layer, at the layer's output.

    ``own``: for inputs that are exact: the layer's own loss. ``so_far``: for inputs that the
    layers before it already changed.
    """

    name: str
    own: Difference
    so_far: Difference


@dataclass(frozen=True)
class PassFindings:
    """What :func:`bisect_passes` found; ``before`` holds the outputs of the module as imported.

    ``after`` are those of the module after all passes.
    """

    rows: Sequence[PassRow]
    layers: Sequence[LayerRow]
    before: Arrays
    after: Arrays


def bisect_passes(
    module: Module,
    chosen: Sequence[Pass],
    asked: Sequence[Pass],
    inputs: Arrays,
    tolerance: Tolerance,
    note: Callable[[str], None] = lambda _: None,
) -> PassFindings:
    """Run ``chosen`` on ``module``, in place, and compare its outputs for ``inputs`` after each.

    ``asked`` are those of them that the user asked for. A module that a pass left in a state that
    cannot be evaluated is an internal fault: the assertion names the pass.
    """
    note("evaluating the model as it was imported")
    before = base = have = _evaluated(module, inputs)
    text, rows, lost = str(module.ir), list[PassRow](), list[LayerRow]()
    for index, each in enumerate(chosen):
        note(f"running and judging {each.name}")
        rounds = any(each is one for one in asked)
        reference = _layer_outputs(module, inputs) if rounds else {}
        seconds = _apply(module, chosen, index)
        row = PassRow(each.name, seconds, rounds)
        if (after := str(module.ir)) != text:
            text, have = after, _after(each, module, inputs)
            row = replace(row, **_judged(have, base, tolerance, module))
            lost += _losses(module, inputs, reference, tolerance)
        rows.append(row)
        base = have if rounds or row.parts else base
    return PassFindings(rows, lost, before, have)


def compared(have: Arrays, want: Arrays, tolerance: Tolerance) -> dict[str, Difference]:
    """Outputs against their references, by name."""
    return {name: compare(have[name], array, tolerance) for name, array in want.items()}


def _judged(have: Arrays, base: Arrays, tolerance: Tolerance, module: Module) -> dict[str, Any]:
    """The fields of a row that say how far the outputs are from ``base``."""
    if not base:
        return {}
    step = rounding_step(module.ir.walk())
    name, found = worst(compared(have, base, replace(tolerance, step=step)))
    return {"output": name, "difference": found}


def _evaluated(module: Module, inputs: Arrays) -> Arrays:
    with np.errstate(all="ignore"):
        return evaluate(module, inputs)


def _apply(module: Module, chosen: Sequence[Pass], index: int) -> float:
    """Run one pass; its seconds."""
    begin = time.perf_counter()
    try:
        run(module, [chosen[index]], verify="each")
    except PassFailed as failed:
        failed.before = chosen[:index]
        raise
    return time.perf_counter() - begin


def _after(each: Pass, module: Module, inputs: Arrays) -> Arrays:
    try:
        return _evaluated(module, inputs)
    except (AssertionError, CompileError, ValueError, IndexError, KeyError, TypeError) as reason:
        raise AssertionError(
            f"the module after the pass {each} cannot be evaluated: {reason}"
        ) from reason


def _layer_outputs(module: Module, inputs: Arrays) -> dict[str, tuple[Any, Array]]:
    """By name, the output of each layer of the entry's own block, and its array."""
    block = main_entry(module).body.block
    named = {layer.name: layer.op.results[0] for layer in layers(module)}
    named = {name: value for name, value in named.items() if value.owner.parent is block}
    kept = watched(module, inputs, list(named.values()))
    return {name: (value, kept[value]) for name, value in named.items()}


def _losses(
    module: Module,
    inputs: Arrays,
    reference: Mapping[str, tuple[Any, Array]],
    tolerance: Tolerance,
) -> list[LayerRow]:
    """What the layers lost, of those that a pass changed and left in place."""
    there = set(main_entry(module).body.block.ops)
    stayed = {n: (v, a) for n, (v, a) in reference.items() if v.owner in there}
    so_far = watched(module, inputs, [value for value, _ in stayed.values()])
    own: dict[Any, Array] = {}
    exact = dict(stayed.values())
    beside(module, inputs, exact, lambda _, op, mine, __: own.update({op.results[0]: mine[0]}))
    rows = [
        LayerRow(n, compare(own[v], a, tolerance), compare(so_far[v], a, tolerance))
        for n, (v, a) in stayed.items()
    ]
    return [row for row in rows if row.own.error or row.so_far.error]

"""Which pass changes what a model computes: the module is evaluated after each.

The outputs after every pass are compared with those of the module before any, or after the last
pass that moved them by more than is allowed: each pass is charged with its own errors, and small
ones add up. Passes that the user asked for round on purpose: what they cost is told, and the
module after them is what later ones are compared with.

A model may amplify: where a value is rounded to codes, an error in the last digit becomes a whole
code, and layer upon layer multiplies it. So outputs that are off are not enough. The pass is
judged again where it worked: every operator that it left in place gets the operands of before,
and has to give the value of before. A pass parts where one does not, which is also where it did it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.frontend.agreement import Difference, Tolerance, compare, worst
from tapeout.frontend.side_by_side import (
    Run,
    beside,
    evaluated,
    main_entry,
    rounding_step,
    weights_behind,
    weights_read,
)
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.passes.manager import Pass, PassFailed, run
from tapeout.passes.quantize.layers import layers

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Place:
    """Where a pass went wrong: an operator that it left in place, or an output of the model.

    ``weights`` are those that the operator reads, or else those of the operators before it.
    """

    name: str
    weights: Sequence[str]
    difference: Difference


@dataclass(frozen=True)
class PassRow:
    """One pass that ran: seconds it took, and what it did to the outputs.

    ``asked``: it is a pass that the user asked for, which changes values on purpose. ``output``
    is the one furthest off; both it and ``difference`` are None where the module stayed as it
    was, which is then not evaluated again. ``place`` is where it parts from the module before.
    """

    name: str
    seconds: float
    asked: bool
    output: str | None = None
    difference: Difference | None = None
    place: Place | None = None

    @property
    def moves(self) -> bool:
        """Whether an output is off by more than is allowed."""
        return self.difference is not None and self.difference.parts

    @property
    def parts(self) -> bool:
        """Whether it changes what the model means, without being asked to."""
        return self.place is not None


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
    """What :func:`bisect_passes` found, and the outputs of the module as it was imported."""

    rows: Sequence[PassRow]
    layers: Sequence[LayerRow]
    before: Arrays


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
    first = last = evaluated(module, inputs)
    base, text = first.outputs, str(module.ir)
    rows, lost = list[PassRow](), list[LayerRow]()
    for index, each in enumerate(chosen):
        note(f"running and judging {each.name}")
        rounds = any(each is one for one in asked)
        reference = _layer_outputs(module) if rounds else {}
        row = PassRow(each.name, _apply(module, chosen, index), rounds)
        if (changed := str(module.ir)) != text:
            text, now = changed, _after(each, module, inputs)
            row = _judged(row, module, now, base, tolerance)
            if rounds:
                lost += _losses(module, inputs, reference, last, now, tolerance)
            elif row.moves:
                row = replace(row, place=_place(module, inputs, last, now, tolerance))
            last = now
        rows.append(row)
        base = last.outputs if rounds or row.moves else base
    return PassFindings(rows, lost, first.outputs)


def compared(have: Arrays, want: Arrays, tolerance: Tolerance) -> dict[str, Difference]:
    """Outputs against their references, by name."""
    return {name: compare(have[name], array, tolerance) for name, array in want.items()}


def _judged(row: PassRow, module: Module, now: Run, base: Arrays, tolerance: Tolerance) -> PassRow:
    """The row, with how far the outputs are from ``base``."""
    if not base:
        return row
    with_step = replace(tolerance, step=rounding_step(module.ir.walk()))
    name, found = worst(compared(now.outputs, base, with_step))
    return replace(row, output=name, difference=found)


def _apply(module: Module, chosen: Sequence[Pass], index: int) -> float:
    """Run one pass; its seconds."""
    begin = time.perf_counter()
    try:
        run(module, [chosen[index]], verify="each")
    except PassFailed as failed:
        failed.before = chosen[:index]
        raise
    return time.perf_counter() - begin


def _after(each: Pass, module: Module, inputs: Arrays) -> Run:
    try:
        return evaluated(module, inputs)
    except (AssertionError, CompileError, ValueError, IndexError, KeyError, TypeError) as reason:
        raise AssertionError(
            f"the module after the pass {each} cannot be evaluated: {reason}"
        ) from reason


def _place(
    module: Module, inputs: Arrays, before: Run, now: Run, tolerance: Tolerance
) -> Place | None:
    """The first operator, else an output, that is off when what stayed has the values of before."""
    with_step = replace(tolerance, step=rounding_step(module.ir.walk()))
    found: list[Place] = []

    def judge(_: Evaluator, op: Operation, own: Sequence[Array], old: Sequence[Array]) -> None:
        pairs = enumerate(zip(own, old, strict=True))
        difference = worst({str(i): compare(a, b, with_step) for i, (a, b) in pairs})[1]
        if difference.parts and not found:
            weights = weights_read(op, module) or weights_behind(op, module)
            found.append(Place(op.name, weights, difference))

    outputs = beside(module, inputs, _stayed(module, before, now), judge)
    name, difference = worst(compared(outputs, before.outputs, with_step))
    if difference.parts and not found:
        found.append(Place(f"output {name}", (), difference))
    return found[0] if found else None


def _stayed(module: Module, before: Run, now: Run) -> dict[SSAValue, Array]:
    """Values of before of the operators that a pass left in place, with their shapes and types."""

    def same(value: SSAValue) -> bool:
        old, new = before.values.get(value), now.values[value]
        return old is not None and (old.shape, old.dtype) == (new.shape, new.dtype)

    operators = (op for op in main_entry(module).body.block.ops if op.results)
    made = (op for op in operators if not isinstance(op, ConstantOp | WeightOp))
    kept = (op for op in made if all(map(same, op.results)))
    return {result: before.values[result] for op in kept for result in op.results}


def _layer_outputs(module: Module) -> dict[str, SSAValue]:
    """By name, the output of each layer of the main entry's own block."""
    block = main_entry(module).body.block
    found = (layer for layer in layers(module) if layer.op.parent is block)
    return {layer.name: layer.op.results[0] for layer in found}


def _losses(
    module: Module,
    inputs: Arrays,
    reference: Mapping[str, SSAValue],
    before: Run,
    now: Run,
    tolerance: Tolerance,
) -> list[LayerRow]:
    """What the layers lost, of those that a pass changed and left in place."""
    stayed = {name: v for name, v in reference.items() if v in now.values}
    exact = {v: before.values[v] for v in stayed.values()}
    own: dict[SSAValue, Array] = {}
    beside(module, inputs, exact, lambda _, op, mine, __: own.update({op.results[0]: mine[0]}))
    rows = [
        LayerRow(
            n, compare(own[v], exact[v], tolerance), compare(now.values[v], exact[v], tolerance)
        )
        for n, v in stayed.items()
    ]
    return [row for row in rows if row.own.error or row.so_far.error]

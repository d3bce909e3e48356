"""An entry run by the reference evaluator beside values that somebody else computed.

What this is for: every operator runs on the other side's own operands, so that a fault shows
where it is and not at everything that reads it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]
Values = Mapping[SSAValue, Array]
Judge = Callable[[Evaluator, Operation, Sequence[Array], Sequence[Array]], None]
"""Told of an operator with what the reference computes for it, and what the other side did.

The evaluator holds the operands, and the symbols.
"""

LITERAL = "literal"
"""What ``fuse`` calls a weight that the model's file does not have."""

STEPS = 2
"""Codes of a value that was rounded to codes that the two sides may be apart by."""


def main_entry(module: Module) -> EntryOp:
    """The entry that models are imported as."""
    return next(e for e in module.entries() if e.sym_name.data == "main")


@dataclass(frozen=True)
class Run:
    """One evaluation of the main entry: its outputs by name, and every value of its own block."""

    outputs: Mapping[str, Array]
    values: Values


def evaluated(module: Module, inputs: Mapping[str, Array]) -> Run:
    """Run the main entry by the reference alone."""
    evaluator = Evaluator(module)
    outputs = _run(evaluator, inputs)
    made = {r for op in main_entry(module).body.block.ops for r in op.results}
    return Run(outputs, {v: a for v, a in evaluator.values.items() if v in made})


def beside(
    module: Module, inputs: Mapping[str, Array], other: Values, judge: Judge
) -> Mapping[str, Array]:
    """Run the main entry; at operators whose results are in ``other``, judge and go on with those.

    Returns what the outputs then are.

    All results of an operator are in ``other``, or none. An array there may be all in one line.
    """

    class Beside(Evaluator):
        def run(self, op: Operation) -> Sequence[Array]:
            if not op.results or op.results[0] not in other:
                return super().run(op)
            symbols = dict(self.symbols)
            own = super().run(op)
            pairs = zip((other[result] for result in op.results), own, strict=True)
            theirs = [a.reshape(b.shape) if _is_flat(a, b) else a for a, b in pairs]
            if [a.shape for a in own] != [a.shape for a in theirs]:
                # What data decides is the other side's too: its shapes bind it.
                self.symbols = symbols
            judge(self, op, own, theirs)
            return theirs

    return _run(Beside(module), inputs)


def _is_flat(a: Array, b: Array) -> bool:
    return a.ndim == 1 != b.ndim and a.size == b.size


def _run(evaluator: Evaluator, inputs: Mapping[str, Array]) -> dict[str, Array]:
    entry = main_entry(evaluator.module)
    arrays = [np.asarray(inputs[name]) for name in entry.inputs.data]
    evaluator.bind_inputs(entry, arrays)
    with np.errstate(all="ignore"):
        results = evaluator.block(entry.body.block, arrays)
    return dict(zip(entry.outputs.data, results, strict=True))


def inside(op: Operation, module: Module) -> Iterator[NNOp]:
    """The operators that an operator stands for: those in its regions and in kernels it calls."""
    kernels = module.kernels()
    for each in op.walk():
        if isinstance(each, CallOp):
            yield from inside(kernels[each.callee.data], module)
        elif isinstance(each, NNOp):
            yield each


def rounding_step(ops: Iterable[Operation]) -> float:
    """What rounding to codes somewhere inside may move a float by, of its largest magnitude.

    A float that lies half-way between two codes is rounded to either, by an error in its last
    digit: two steps of the narrowest codes. 0 where no float is rounded to 8 bits or fewer.
    """
    bits = [spec(op.y).dtype.bits for op in ops if isinstance(op, ConvertOp) and _rounds(op)]
    return STEPS * 2.0 ** -min(bits) if bits else 0.0


def _rounds(op: ConvertOp) -> bool:
    to = spec(op.y).dtype
    return spec(op.x).dtype.is_float and to.is_integer and to.bits <= 8


def weights_read(op: Operation, module: Module) -> list[str]:
    """The names that the model's file has for the weights among an operator's operands."""
    labels: list[str] = []
    for value in op.operands:
        while isinstance(value.owner, ReshapeOp):
            value = value.owner.x
        if isinstance(value.owner, WeightOp):
            labels.append(module.weights.label(value.owner.symbol.data))
    return [label for label in dict.fromkeys(labels) if label not in ("", LITERAL)]


def weights_behind(op: Operation, module: Module) -> list[str]:
    """The weights that the nearest operators before this one read, on any way to it."""
    seen, front = {op}, [op]
    while front:
        made = (v.owner for each in front for v in each.operands)
        front = list(dict.fromkeys(o for o in made if isinstance(o, Operation) and o not in seen))
        seen.update(front)
        found = [label for each in front for label in weights_read(each, module)]
        if found:
            return list(dict.fromkeys(found))
    return []

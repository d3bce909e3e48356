"""Run a module over samples with the reference evaluator, and watch its values."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.types import TensorType, spec
from tapeout.passes.calibrate.statistics import Channels, Gram, Rows, Statistics

Array = np.ndarray[Any, Any]
Observed = dict[SSAValue, Statistics]


def observe(
    module: Module,
    samples: Iterable[Mapping[str, Array]],
    values: Collection[SSAValue] | None = None,
    *,
    grams: Collection[SSAValue] = (),
    sampled: Collection[SSAValue] = (),
    rows: int = 512,
    entry: str = "main",
) -> Observed:
    """Statistics of values of ``entry`` over ``samples`` (inputs by name), one run for each.

    ``values``: all that are floats when None. Channels are kept where the last axis has a fixed
    size. ``grams`` name values of which ``X^T X`` over the last axis is kept too (f32, the square
    of its size: choose those that fit memory), ``sampled`` those of which ``rows`` rows are.
    Samples are drawn one at a time, and a value is dropped after its last reader ran.

    Before ``fuse``: a kernel's inside is not watched. Raises what the evaluator does.
    """
    assert not module.kernels(), "observe a module before its operators are in kernels"
    main = next(e for e in module.entries() if e.sym_name.data == entry)
    chosen = list(floats(main)) if values is None else values
    seen = {v: _statistics(v) for v in dict.fromkeys([*chosen, *grams, *sampled])}
    for value in grams:
        seen[value].gram = Gram.of(_channels(value))
    for value in sampled:
        seen[value].rows = Rows.of(_channels(value), rows)
    watch = Watch(module, main, seen)
    for sample in samples:
        watch.sample(sample)
    return seen


def floats(entry: EntryOp) -> Iterator[SSAValue]:
    """Every float value that depends on inputs, those of inner blocks too."""
    for block in (b for op in entry.walk() for r in op.regions for b in r.blocks):
        made = (op for op in block.ops if not isinstance(op, ConstantOp | WeightOp))
        for value in (*block.args, *(r for op in made for r in op.results)):
            if isinstance(value.type, TensorType) and spec(value).dtype.is_float:
                yield value


def _statistics(value: SSAValue) -> Statistics:
    want = spec(value)
    last = want.dims[-1].constant if want.rank else None
    return Statistics(channels=None if last is None else Channels.of(last))


def _channels(value: SSAValue) -> int:
    size = spec(value).dims[-1].constant
    assert size is not None, f"{value.type}: rows are of a fixed size"
    return size


class Taker(Protocol):
    """Takes in one array of a value after another."""

    def add(self, array: Array) -> None:
        """Take in one array."""


class Watch(Evaluator):
    """An evaluator that adds what it computes to statistics, and forgets what is not read again."""

    def __init__(self, module: Module, entry: EntryOp, seen: Mapping[SSAValue, Taker]) -> None:
        super().__init__(module)
        self.entry, self.seen = entry, seen
        blocks = [b for op in entry.walk() for r in op.regions for b in r.blocks]
        self.dying = {op: values for b in blocks for op, values in last_reads(b).items()}

    def sample(self, inputs: Mapping[str, Array]) -> None:
        """Run the entry on one sample."""
        self.symbols.clear()
        self.values.clear()
        arrays = [np.asarray(inputs[name]) for name in self.entry.inputs.data]
        self.bind_inputs(self.entry, arrays)
        self.block(self.entry.body.block, arrays)

    def block(self, block: Block, arguments: Sequence[Array]) -> list[Array]:
        """Run a block, and watch its arguments."""
        self.note(block.args, arguments)
        return super().block(block, arguments)

    def run(self, op: Operation) -> Sequence[Array]:
        """Run one operator, and watch its results."""
        results = super().run(op)
        self.note(op.results, results)
        for value in self.dying.get(op, ()):
            del self.values[value]
        return results

    def note(self, values: Sequence[SSAValue], arrays: Sequence[Array]) -> None:
        """Add arrays to the statistics of those values that are watched."""
        for value, array in zip(values, arrays, strict=True):
            if value in self.seen:
                self.seen[value].add(array)


def last_reads(block: Block) -> Mapping[Operation, Sequence[SSAValue]]:
    """The values of a block by the operator of the block that reads them last, inside it or not."""
    place = {op: i for i, op in enumerate(block.ops)}
    found: dict[Operation, list[SSAValue]] = defaultdict(list)
    for value in (*block.args, *(r for op in block.ops for r in op.results)):
        readers = [block.find_ancestor_op_in_block(use.operation) for use in value.uses]
        inside = [op for op in readers if op is not None]
        if inside:
            found[max(inside, key=place.__getitem__)].append(value)
    return found

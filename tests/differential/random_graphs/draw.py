"""A random graph in the making: a pool of values, and moves that add values to it.

Every choice comes from one seed. Sizes are ragged on purpose: around vector widths, tile sizes
and 1. A value is *exact* when no rounding can have touched it, so that it may be compared,
rounded or converted to an integer without a difference in the last bit becoming a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, boolean, f16, f32, i64
from tapeout.ir.expr import Expr, ExprLike, as_expr, bounds, is_at_least, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec, TensorType, spec

Array = np.ndarray[Any, Any]
T = TypeVar("T")
Move = Callable[["Draw"], "SSAValue | None"]
"""Adds operators and returns their result; None when nothing in the pool fits."""

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 48, 50, 64, 65)
SYMBOLS = {"N": symbol("N", 1, 40), "M": symbol("M", 1, 70)}
MOST_ELEMENTS = 60_000
PLACES = 4
"""Random i64 inputs lie below this: what they look up has at least as many entries."""


@dataclass(frozen=True)
class Case:
    """A module, and inputs for some values of its symbols."""

    seed: int
    module: Module
    inputs: Sequence[dict[str, Array]]
    moves: Sequence[str]


@dataclass
class Draw(Emit):
    """Builds one graph; ``random`` makes every choice."""

    module: Module
    random: np.random.Generator
    builder: Builder
    pool: list[SSAValue]
    exact: set[SSAValue] = field(default_factory=set[SSAValue])
    nesting: int = 0
    symbols: int = 0

    def input(self, name: str) -> SSAValue:
        """An input of the entry."""
        entry = next(self.module.entries())
        names: tuple[str, ...] = entry.inputs.data
        return entry.body.block.args[names.index(name)]

    def fresh(self, most: ExprLike) -> Expr:
        """A symbol that data binds, up to the greatest value of ``most``."""
        self.symbols += 1
        return symbol(f"n{self.symbols}", 0, bounds(most)[1])

    # Choices

    def pick(self, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """True in ``share`` of all cases."""
        return bool(self.random.random() < share)

    def value(self, fits: Callable[[Spec], bool]) -> SSAValue | None:
        """A value of the pool whose type fits; later ones more often."""
        found = [v for v in self.pool if fits(spec(v))]
        if not found:
            return None
        return found[-1] if self.chance(0.5) else self.pick(found)

    def floats(self, rank: int | None = None, least: int = 0) -> SSAValue | None:
        """A float value, of a rank or of at least one."""
        return self.value(
            lambda s: s.dtype.is_float and (s.rank == rank if rank is not None else s.rank >= least)
        )

    def ragged(self, most: int = 65) -> int:
        """A ragged size."""
        return self.pick([s for s in SIZES if s <= most])

    def weight(self, dims: Sequence[int], dtype: DType = f32, scale: float = 1.0) -> SSAValue:
        """A fixed tensor of normal random numbers."""
        array = (self.random.standard_normal(dims) * scale).astype(dtype.numpy)
        name = self.module.weights.add(array, "random")
        shape = tuple(map(as_expr, dims))
        return self.op(WeightOp, symbol=name, shape=shape, dtype=dtype.name)

    def exactly(self, y: SSAValue, *operands: SSAValue) -> SSAValue:
        """Note that ``y`` is exact if its operands are."""
        if all(v in self.exact for v in operands):
            self.exact.add(y)
        return y


def draw(seed: int, moves: Sequence[Move], count: int = 8, runs: int = 3) -> Case:
    """A graph of about ``count`` moves, with inputs for ``runs`` choices of its symbols."""
    random = np.random.default_rng(seed)
    entry = EntryOp("main", _inputs(random))
    module = Module(ModuleOp([entry]))
    block = entry.body.block
    d = Draw(module, random, Builder(InsertPoint.at_end(block)), list(block.args))
    d.exact.update(block.args)
    done: list[str] = []
    while len(done) < count:
        move: Move = d.pick(moves)
        y = move(d)
        if y is not None and is_small(spec(y)):
            d.pool.append(y)
            done.append(move.__name__)
    _finish(d, entry)
    sizes = [_sizes(random) for _ in range(runs)]
    return Case(seed, module, [_arrays(entry, s, random) for s in sizes], done)


def is_small(t: Spec) -> bool:
    """Whether a value is cheap to compute at every size of its symbols."""
    return t.size.constant != 0 and is_at_least(as_expr(MOST_ELEMENTS), t.size)


def _sizes(random: np.random.Generator) -> dict[str, int]:
    """A value within its range for every symbol."""
    limits = {name: bounds(size) for name, size in SYMBOLS.items()}
    return {name: int(random.integers(lo or 0, (hi or 0) + 1)) for name, (lo, hi) in limits.items()}


def _inputs(random: np.random.Generator) -> list[tuple[str, Spec]]:
    """Float inputs of one to four axes, some symbolic, then numbers, flags and a trip count."""
    inputs: list[tuple[str, Spec]] = []
    for i in range(int(random.integers(2, 4))):
        rank = int(random.integers(1, 5))
        dims = [_dim(random, rank) for _ in range(rank)]
        dtype = f16 if random.random() < 0.15 else f32
        inputs.append((f"x{i}", Spec(tuple(dims), dtype)))
    wide = inputs[0][1]
    inputs.append(("places", Spec((as_expr(int(random.integers(1, 9))),), i64)))
    inputs.append(("numbers", wide.with_dtype(i64)))
    inputs.append(("mask", wide.with_dtype(boolean)))
    inputs.append(("flag", Spec((), boolean)))
    inputs.append(("trips", Spec((), i64)))
    return inputs


def _dim(random: np.random.Generator, rank: int) -> Expr:
    if random.random() < 0.25:
        return SYMBOLS["N" if random.random() < 0.5 else "M"]
    most = {1: 65, 2: 65, 3: 33, 4: 17}[rank]
    return as_expr(int(random.choice([s for s in SIZES if s <= most])))


def _arrays(entry: EntryOp, sizes: dict[str, int], random: np.random.Generator) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for name, value in zip(entry.inputs.data, entry.body.block.args, strict=True):
        t = spec(value)
        shape = [d.evaluate(sizes) for d in t.dims]
        if t.dtype.is_float:
            array = random.standard_normal(shape)
        else:
            array = random.integers(0, 2 if t.dtype is boolean else PLACES, shape)
        made[name] = np.asarray(array).astype(t.dtype.numpy)
    return made


def _finish(d: Draw, entry: EntryOp) -> None:
    """Return what nobody reads, and a few other values, inputs and repeats among them."""
    unread = [v for v in d.pool if not v.uses and v not in entry.body.block.args]
    extra = [d.pick(d.pool) for _ in range(int(d.random.integers(0, 3)))]
    values = [*unread, *extra]
    d.builder.insert(ReturnOp(values))
    entry.properties["outputs"] = type(entry.outputs)(tuple(f"y{i}" for i in range(len(values))))
    d.module.ir.verify()


def typed(t: Spec) -> TensorType:
    """The IR type of a spec."""
    return TensorType(t)

"""Branches and loops with bodies of random operators, nested to a depth of two."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from xdsl.builder import Builder
from xdsl.ir import Block, Region, SSAValue
from xdsl.rewriter import InsertPoint

from random_graphs.draw import PLACES, Draw, Move, is_small, typed
from random_graphs.moves import binary, concat, cut, pad, quotient, reduce, unary, where
from tapeout.ir.dtypes import boolean, f32, i64
from tapeout.ir.expr import Expr, as_expr, is_at_least
from tapeout.ir.ops.source import BindDimsOp, DimValuesOp
from tapeout.ir.ops.structure import IfOp, LoopOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import Spec, spec

PLAIN = (unary, unary, binary, binary, quotient, where, reduce)
SHAPED = (concat, cut, pad)


def branch(d: Draw) -> SSAValue | None:
    """An ``nn.if`` whose branches return one shape, or sizes that differ in the first axis."""
    x = d.floats(least=1)
    if x is None:
        return None
    t = spec(x)
    size = d.fresh(t.dims[0] * 2)
    differs = d.chance(0.4)
    result = t.with_dims([size, *t.dims[1:]]) if differs else t
    regions: list[Region] = []
    for _ in range(2):
        with inside(d, Block()) as block:
            _some(d, PLAIN)
            y = _like(d, t, x)
            if differs:
                y = _resized(d, y)
                bind(d, [spec(y).dims[0]], [size])
                y = d.reshape(y, result.dims)
            d.builder.insert(ReturnOp([y]))
            regions.append(Region(block))
    flag = d.input("flag")
    op = d.builder.insert(IfOp(flag, regions[0], regions[1], [typed(result)]))
    return op.results[0]


def _resized(d: Draw, y: SSAValue) -> SSAValue:
    """Another size of the first axis: doubled, cut to one, or as it was."""
    kind = int(d.random.integers(3))
    if kind == 0:
        return d.op(ConcatOp, (y, y), axis=0)
    return d.part(y, 0, 0, 1) if kind == 1 and is_at_least(spec(y).dims[0], 1) else y


def loop(d: Draw) -> SSAValue | None:
    """An ``nn.loop`` of one or two carried values, which may change places, and a scan."""
    x = d.value(lambda s: s.dtype is f32 and s.rank >= 1)
    if x is None:
        return None
    t = spec(x)
    carried = [x, d.value(lambda s: s == t) or x][: 1 + int(d.chance(0.5))]
    scans = int(d.chance(0.5))
    count = d.fresh(PLACES)
    types = [Spec((), i64), Spec((), boolean), *(t for _ in carried)]
    with inside(d, Block(arg_types=[typed(s) for s in types])) as block:
        step, going, *given = block.args
        d.pool.extend(given)
        if d.chance(0.5):
            d.pool.append(d.map("mul", given[0], d.convert(step, t.dtype)))
        _some(d, (*PLAIN, *SHAPED, *((branch, loop) if d.nesting < 2 else ())))
        # Bounded, or a few trips would carry the values to infinity.
        following = [d.map("tanh", _like(d, t, given[0])) for _ in carried]
        if len(carried) == 2 and d.chance(0.5):
            following[d.pick((0, 1))] = d.pick(given)
        slices = [_like(d, t, given[0])] * scans
        more = going if d.chance(0.5) else _until(d, step)
        d.builder.insert(ReturnOp([more, *following, *slices]))
    results = [t] * len(carried) + [t.with_dims([count, *t.dims])] * scans
    trips = d.input("trips")
    condition = d.constant(True, boolean) if d.chance(0.7) else d.input("flag")
    made = LoopOp(
        trips, condition, carried, Region(block), [typed(r) for r in results], count, scans
    )
    op = d.builder.insert(made)
    d.pool.extend(op.results[:-1])
    return op.results[-1]


def growing(d: Draw) -> SSAValue | None:
    """A loop whose carried value is a row longer after every iteration."""
    x = d.value(lambda s: s.dtype is f32 and s.rank in (1, 2))
    if x is None:
        return None
    t = spec(x)
    size, next_size = (d.fresh(t.dims[0] + PLACES) for _ in range(2))
    result = t.with_dims([size, *t.dims[1:]])
    bind(d, [t.dims[0]], [size])
    start = d.reshape(x, result.dims)
    types = [Spec((), i64), Spec((), boolean), result]
    with inside(d, Block(arg_types=[typed(s) for s in types])) as block:
        _, going, given = block.args
        row = d.map("tanh", d.reduce("sum", given, [0]))
        longer = d.op(ConcatOp, (given, row), axis=0)
        bind(d, [spec(longer).dims[0]], [next_size])
        kept = d.reshape(longer, [next_size, *t.dims[1:]])
        bind(d, [next_size], [size])
        d.builder.insert(ReturnOp([going, d.reshape(kept, result.dims)]))
    count = d.fresh(PLACES)
    trips, yes = d.input("trips"), d.constant(True, boolean)
    op = d.builder.insert(LoopOp(trips, yes, [start], Region(block), [typed(result)], count, 0))
    return d.map("sin", op.results[0])


def chosen_shape(d: Draw) -> SSAValue | None:
    """The first elements of a value, as many as the trip count says."""
    x = d.value(lambda s: s.dtype is f32 and s.rank == 2 and is_at_least(s.dims[0], 1))
    if x is None:
        return None
    size = d.fresh(PLACES)
    trips = d.reshape(d.input("trips"), (1,))
    d.builder.insert(BindDimsOp.make(trips, symbols=(size,)))
    row = d.part(x, 0, 0, 1)
    return d.map("abs", d.expand(row, [size, spec(x).dims[1]]))


def bind(d: Draw, values: Sequence[Expr], symbols: Sequence[Expr]) -> None:
    """Give symbols the values of expressions."""
    vector = d.op(DimValuesOp, values=tuple(map(as_expr, values)))
    d.builder.insert(BindDimsOp.make(vector, symbols=tuple(symbols)))


def _until(d: Draw, step: SSAValue) -> SSAValue:
    return d.map("lt", step, d.constant(int(d.random.integers(0, 4)), i64))


@contextmanager
def inside(d: Draw, block: Block) -> Generator[Block]:
    """Insert into a block, from whose values nothing leaves but what it returns."""
    builder, pool, exact = d.builder, d.pool, d.exact
    d.builder, d.pool, d.exact = Builder(InsertPoint.at_end(block)), list(pool), set(exact)
    d.nesting += 1
    yield block
    d.nesting -= 1
    d.builder, d.pool, d.exact = builder, pool, exact


def _some(d: Draw, moves: Sequence[Move]) -> None:
    for _ in range(int(d.random.integers(1, 5))):
        move = d.pick(moves)
        y = move(d)
        if y is not None and is_small(spec(y)):
            d.pool.append(y)


def _like(d: Draw, t: Spec, default: SSAValue) -> SSAValue:
    """A value of a type, a fresh function of it as a rule."""
    y = d.value(lambda s: s == t) or default
    return y if d.chance(0.25) else d.map(d.pick(("tanh", "sin", "neg")), y)


FLOW = (branch, branch, loop, loop, growing, chosen_shape)
"""Moves that steer the run or let data decide sizes."""

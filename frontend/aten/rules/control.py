"""Operators that hold graphs: branches, loops, scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx
from xdsl.ir import Block, Region, SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import Expr, as_symbol
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.source import BindDimsOp, DimValuesOp
from tapeout.ir.ops.structure import IfOp, LoopOp, ReturnOp
from tapeout.ir.types import Spec, TensorType, spec

Values = Sequence[Any]


@rule("wrap_with_set_grad_enabled")
def with_gradients(
    b: Builder, call: Call, enabled: bool, body: fx.GraphModule, *operands: Any
) -> tuple[Any, ...]:
    """The graph as it is: nothing is trained here."""
    return tuple(b.graph(body, operands))


@rule("cond")
def cond(
    b: Builder,
    call: Call,
    condition: Any,
    then: fx.GraphModule,
    otherwise: fx.GraphModule,
    operands: Values,
) -> tuple[SSAValue, ...]:
    """One of two graphs; a size in which they differ is a symbol that either binds."""
    holds = b.holds(call, condition)
    if isinstance(holds, bool):
        return tuple(b.graph(then if holds else otherwise, operands))
    specs = call.outputs
    decided = [d for s in specs for d in s.dims if b.sizes.bind(d)]
    first, second = (_branch(b, g, operands, specs, decided) for g in (then, otherwise))
    types = [TensorType(s) for s in specs]
    return tuple(b.builder.insert(IfOp(holds, first, second, types)).results)


def _branch(
    b: Builder, graph: fx.GraphModule, operands: Values, specs: Sequence[Spec], decided: list[Expr]
) -> Region:
    block = Block()
    with b.into(block):
        values = [b.tensor(v) for v in b.graph(graph, operands)]
        pairs = [p for v, s in zip(values, specs, strict=True) for p in zip(s.dims, spec(v).dims)]
        sizes = {want: have for want, have in pairs if want in decided}
        if sizes:
            here = b.op(DimValuesOp, values=tuple(sizes.values()))
            b.builder.insert(BindDimsOp.make(here, symbols=tuple(sizes)))
        made = [b.reshape(v, s.dims) for v, s in zip(values, specs, strict=True)]
        b.builder.insert(ReturnOp(made))
    return Region(block)


@rule("while_loop")
def while_loop(
    b: Builder,
    call: Call,
    condition: fx.GraphModule,
    body: fx.GraphModule,
    carried: Values,
    fixed: Values,
) -> tuple[Any, ...]:
    """The body again and again while a condition of its results holds."""

    def goes_on(values: Values) -> SSAValue:
        (holds,) = b.graph(condition, [*values, *fixed])
        found = b.holds(call, holds)
        return found if isinstance(found, SSAValue) else b.constant(found, boolean)

    def step(_: SSAValue, __: SSAValue, state: Sequence[SSAValue]) -> Values:
        made = b.graph(body, [*state, *fixed])
        return [goes_on(made), *made]

    return tuple(_loop(b, None, goes_on(carried), carried, step, ()))


@rule("scan")
def scan(
    b: Builder, call: Call, body: fx.GraphModule, state: Values, xs: Values, fixed: Values
) -> tuple[SSAValue, ...]:
    """The body over the slices of axis 0 and a state that goes around; what it gives is stacked."""
    trips = spec(xs[0]).dims[0]

    def step(at: SSAValue, going: SSAValue, values: Sequence[SSAValue]) -> Values:
        slices = [b.op(GatherOp, x, at, axis=0) for x in xs]
        return [going, *b.graph(body, [*values, *slices, *fixed])]

    stacked = call.outputs[len(state) :]
    return tuple(_loop(b, trips, b.constant(True, boolean), state, step, stacked))


@rule("map_impl")
def map_(
    b: Builder, call: Call, body: fx.GraphModule, xs: Values, fixed: Values
) -> tuple[SSAValue, ...]:
    """The body of each slice of axis 0."""
    return scan(b, call, body, (), xs, fixed)


def _loop(
    b: Builder,
    trips: Expr | None,
    going: SSAValue,
    carried: Values,
    step: Callable[[SSAValue, SSAValue, Sequence[SSAValue]], Values],
    stacked: Sequence[Spec],
) -> list[SSAValue]:
    """``nn.loop``; ``step`` gives the condition, what is carried, and one slice for each stack."""
    start = [b.tensor(v) for v in carried]
    specs = [spec(v) for v in start]
    block = Block(arg_types=[TensorType(s) for s in (Spec((), i64), Spec((), boolean), *specs)])
    slices = [s.with_dims(s.dims[1:]) for s in stacked]
    with b.into(block):
        at, still, *state = block.args
        condition, *made = (b.tensor(v) for v in step(at, still, state))
        fit = zip(made, (*specs, *slices), strict=True)
        b.builder.insert(ReturnOp([condition, *(b.reshape(v, s.dims) for v, s in fit)]))
    plain = trips is not None and (trips.constant is not None or as_symbol(trips) is not None)
    count = trips if trips is not None and plain else b.sizes.fresh()
    limit = b.constant(np.iinfo(np.int64).max, i64) if trips is None else b.size(trips, i64)
    results = [*specs, *(s.with_dims((count, *s.dims)) for s in slices)]
    types = [TensorType(s) for s in results]
    loop = LoopOp(limit, going, start, Region(block), types, count, len(stacked))
    made = b.builder.insert(loop).results
    return [b.reshape(v, s.dims) for v, s in zip(made, (*specs, *stacked), strict=True)]

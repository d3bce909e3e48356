"""Repetition: a body unrolled while all that decides it is known, else ``nn.loop``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from xdsl.ir import Block, Operation, Region

from tapeout.frontend.onnx.appending import Appending, Body
from tapeout.frontend.onnx.branches import bind_to
from tapeout.frontend.onnx.builder import Builder, Scope
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.caps import check_sizes
from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.value import AnyValue, Value, symbolic
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import Expr, Symbol, as_expr, as_symbol, bounds
from tapeout.ir.ops.source import BindDimsOp
from tapeout.ir.ops.structure import LoopOp, ReturnOp
from tapeout.ir.types import ExprsAttr, Spec, TensorType, spec

UNROLLED = 16
"""Longer loops stay loops: every iteration unrolled is code of its own."""


@dataclass(frozen=True)
class Repeat:
    """One loop: ``trips`` None has no limit, ``condition`` is rank-0; ``scans`` are stacked.

    ``unequal`` is what to raise when slices that are stacked may differ in size, else E0402.
    """

    node: Call
    body: Body
    trips: Value | None
    condition: Value
    carried: Sequence[AnyValue]
    scans: int
    unequal: NotKnown | None = None

    def build(self, b: Builder) -> list[AnyValue]:
        """The carried values at the end, then the stacked scans; E0310 for too few results."""
        if self.scans < 0:
            self.node.invalid("the body has fewer outputs than are carried")
        unrolled = self._unrolled(b)
        if unrolled is not None:
            return unrolled
        plain = [v for v in self.carried if isinstance(v, Value)]
        if len(plain) == len(self.carried):
            return list(self._loop(b, plain))
        what = "the iterations of a loop over sequences"
        unknown = b.not_known(self.node, what, self.trips, self.condition)
        appending = Appending(self.body, self.carried, unknown)
        scans = self.scans + appending.count
        loop = replace(self, body=appending.run, carried=plain, scans=scans, unequal=unknown)
        return appending.results(loop._loop(b, plain))

    # -- unrolled ----------------------------------------------------------------------------

    def _unrolled(self, b: Builder) -> list[AnyValue] | None:
        """The iterations one after the other; None when the run decides how many there are."""
        limit = UNROLLED + 1
        if self.trips is not None:
            if self.trips.array is None:
                return None
            limit = int(self.trips.array)
        if limit > UNROLLED and self.trips is not None:
            return None
        scope = Scope()
        with b.into(scope):
            results = self._iterations(b, limit)
        if results is None:
            scope.discard()
            return None
        b.splice(scope)
        return results

    def _iterations(self, b: Builder, limit: int) -> list[AnyValue] | None:
        carried, slices, going = list(self.carried), list[list[Value]](), self.condition
        for step in range(limit):
            if going.array is None:
                return None
            if not going.array:
                break
            made = self.body(b.scalar(step, i64), going, carried)
            carried = made[1 : len(carried) + 1]
            slices.append(self.tensors(made[len(carried) + 1 :]))
            going = self.tensors(made[:1])[0]
        else:
            if limit > UNROLLED:
                return None
        if not slices and self.scans:
            return None
        stacked = [
            b.concat([b.reshape(s[i], [1, *s[i].dims]) for s in slices], 0)
            for i in range(self.scans)
        ]
        return [*carried, *stacked]

    def tensors(self, values: Sequence[AnyValue]) -> list[Value]:
        """The values, which must be tensors; E0402."""
        found = [v for v in values if isinstance(v, Value)]
        if len(found) < len(values):
            self.node.refuse("a sequence cannot be stacked or be a condition")
        return found

    # -- nn.loop -----------------------------------------------------------------------------

    def _loop(self, b: Builder, carried: Sequence[Value]) -> list[Value]:
        """The loop, with a symbol for each carried size that an iteration changes."""
        specs = [v.spec for v in carried]
        while True:
            trial = _Trial(self, b, specs)
            wanted = trial.carried_specs()
            if wanted == specs:
                return trial.finish(carried)
            trial.scope.discard()
            specs = wanted


class _Trial:
    """A body imported for carried values of given types."""

    def __init__(self, loop: Repeat, b: Builder, specs: Sequence[Spec]) -> None:
        self.loop, self.b, self.specs = loop, b, list(specs)
        types = [Spec((), i64), Spec((), boolean), *specs]
        self.scope = Scope(Block(arg_types=[TensorType(s) for s in types]))
        step, going, *rest = self.scope.block.args
        self.going = Value(spec(going), ssa=going)
        trips = None if loop.trips is None else b.exprs(loop.trips)
        last = None if trips is None else bounds(trips[0] - 1)[1]
        self.step = b.symbols.fresh("t", 0, last)
        number = np.empty((), object)
        number[()] = self.step
        counter = symbolic(number, i64)
        with b.into(self.scope):
            b.bind(b.reshape(Value(spec(step), ssa=step), [1]), [self.step])
            counter.ssa = step
            made = loop.body(counter, self.going, [Value(spec(r), ssa=r) for r in rest])
            self.results = loop.tensors(made)

    def carried_specs(self) -> list[Spec]:
        """The types to carry: as given, with a new symbol where the body returns another size."""
        made: list[Spec] = []
        for want, value in zip(self.specs, self.results[1:], strict=False):
            if want.dtype is not value.dtype or want.rank != value.rank:
                self.loop.node.refuse(
                    "a carried value changes its element type or number of dimensions",
                    ("from", f"{want.dtype} of rank {want.rank}"),
                    ("to", f"{value.dtype} of rank {value.rank}"),
                )
            pairs = zip(want.dims, value.dims, strict=True)
            made.append(want.with_dims(self._carried_dim(w, d) for w, d in pairs))
        return made

    def _carried_dim(self, want: Expr, have: Expr) -> Expr:
        known = as_symbol(want)
        if want == have or (known is not None and known.name.startswith("c")):
            return want
        return self.b.symbols.fresh("c")

    def finish(self, carried: Sequence[Value]) -> list[Value]:
        """Put the loop into the current block."""
        b, count = self.b, len(self.specs)
        scans = self.results[count + 1 :]
        self._check_scans(scans)
        with b.into(self.scope):
            rest = self._next(self.results[1 : count + 1])
            going = b.reshape(self.results[0], ())
            b.append(ReturnOp([b.ssa(v) for v in (going, *rest, *scans)]))
        self._drop_unused_step()
        stacked = self._count()
        initial = bind_to(b, carried, self.specs)
        results = [*self.specs, *(s.spec.with_dims([stacked, *s.dims]) for s in scans)]
        check_sizes("loop", results)
        op = LoopOp(
            b.ssa(self.loop.trips or b.scalar(np.iinfo(np.int64).max, i64)),
            b.ssa(self.loop.condition),
            [b.ssa(v) for v in initial],
            Region(self.scope.block),
            [TensorType(r) for r in results],
            stacked,
            len(scans),
        )
        b.append(op)
        return [Value(spec(r), ssa=r) for r in op.results]

    def _next(self, values: Sequence[Value]) -> list[Value]:
        """Carried values for the next iteration: here the symbols of their sizes change.

        The new sizes go through symbols of their own, because an expression such as ``N + c``
        means another number once ``c`` has changed.
        """
        pairs = list(zip(values, self.specs, strict=True))
        between = [v.spec if v.dims == s.dims else self._renewed(s, v.spec) for v, s in pairs]
        return bind_to(self.b, bind_to(self.b, values, between), self.specs)

    def _renewed(self, want: Spec, have: Spec) -> Spec:
        sizes = zip(want.dims, have.dims, strict=True)
        return have.with_dims(h if h == w else self.b.symbols.fresh("n") for w, h in sizes)

    def _count(self) -> Expr:
        """The iterations that will be done: the trips when nothing can end the loop before."""
        trips = None if self.loop.trips is None else self.b.exprs(self.loop.trips)
        begins = self.loop.condition.array is not None and bool(self.loop.condition.array)
        going = self.results[0]
        goes_on = going.ssa is self.going.ssa or (going.array is not None and bool(going.array))
        if trips is None:
            return self.b.symbols.fresh("n")
        plain = trips[0].constant is not None or as_symbol(trips[0]) is not None
        if begins and goes_on and plain:
            return trips[0]
        return self.b.symbols.fresh("n", 0, bounds(trips[0])[1])

    def _check_scans(self, scans: Sequence[Value]) -> None:
        """Slices that are stacked have one size, which the body itself must not decide."""
        inner = _bound_inside(self.scope.block)
        inner |= {s for c in self.specs for d in c.dims for s in d.symbols() if s.name[0] == "c"}
        for scan in scans:
            if any(d.symbols() & inner for d in scan.dims):
                if self.loop.unequal is not None:
                    raise self.loop.unequal
                self.loop.node.refuse(
                    "the size of a scanned output is decided inside the loop",
                    ("sizes", ", ".join(map(str, scan.dims))),
                    fix="declare the size in the body's outputs",
                )

    def _drop_unused_step(self) -> None:
        first = next(op for op in self.scope.block.ops if isinstance(op, BindDimsOp))
        symbol = as_symbol(self.step)
        used = any(symbol in _symbols(op) for op in self.scope.block.walk() if op is not first)
        if not used:
            source = first.x.owner
            self.scope.block.erase_op(first)
            if isinstance(source, Operation) and not source.results[0].uses.get_length():
                self.scope.block.erase_op(source)


def _bound_inside(block: Block) -> set[Symbol]:
    """Symbols that operators of a block give values to."""
    found = set[Symbol]()
    for op in block.walk():
        for name, attribute in op.properties.items():
            if isinstance(attribute, ExprsAttr) and name in ("symbols", "count"):
                found |= {s for e in attribute.data for s in e.symbols()}
    return found


def _symbols(op: Operation) -> set[Symbol]:
    found = set[Symbol]()
    for attribute in op.properties.values():
        if isinstance(attribute, ExprsAttr):
            found |= {s for e in attribute.data for s in e.symbols()}
    for result in op.results:
        found |= {s for d in spec(result).dims for s in d.symbols()}
    return found


def constant_condition(b: Builder, value: bool) -> Value:
    """A known rank-0 truth value."""
    return b.scalar(value, boolean)


def declared(value: Value, dims: Sequence[int | str | None] | None) -> list[Expr]:
    """The sizes of ``value``, with those numbers that a graph declares where it has symbols."""
    if dims is None or len(dims) != value.rank:
        return list(value.dims)
    return [
        as_expr(want) if have.constant is None and isinstance(want, int) else have
        for have, want in zip(value.dims, dims, strict=True)
    ]

"""What rules build with: operators from values, folded when their contents are known."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from xdsl.ir import Block, Operation, SSAValue

from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.caps import check_sizes
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.fold import Operand, fold, hints, is_whole
from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.ratios import limits
from tapeout.frontend.onnx.symbols import Symbols
from tapeout.frontend.onnx.value import AnyValue, Array, Value, known, symbolic
from tapeout.frontend.onnx.view import Graph, Tensor
from tapeout.ir.dtypes import DType, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, ExprLike, as_expr, bounds
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp, as_tuple, defaults
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import BindDimsOp, DimValuesOp, IotaOp
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.shapes import broadcast, check_axis
from tapeout.ir.types import spec

Number: TypeAlias = int | float
GraphImporter: TypeAlias = Callable[[Graph, Sequence[AnyValue]], list[AnyValue]]


@dataclass(eq=False)
class Scope:
    """A block being filled, and the SSA values made in it for known contents."""

    block: Block = field(default_factory=Block)
    made: dict[Value, SSAValue] = field(default_factory=dict[Value, SSAValue])

    def discard(self) -> None:
        """Erase what was built here, so that it counts as no reader of anything."""
        for op in reversed(list(self.block.ops)):
            self.block.erase_op(op)


class Builder:
    """Appends operators to the current block; rules get one and nothing else of the importer."""

    def __init__(self, module: Module, block: Block, symbols: Symbols) -> None:
        """Begin with the entry's block."""
        self.module = module
        self.symbols = symbols
        self.scopes = [Scope(block)]
        self.import_graph: GraphImporter | None = None
        # The node that is being imported, as messages call it.
        self.node = ""

    # -- operators ---------------------------------------------------------------------------

    def make(self, op: type[NNOp], *operands: Operand, **attrs: Any) -> Value:
        """One operator with one result; no operator when contents decide it."""
        (result,) = self.make_many(op, *operands, **attrs)
        return result

    def make_many(self, op: type[NNOp], *operands: Operand, **attrs: Any) -> tuple[Value, ...]:
        """One operator with any number of results. Raises CompileError from its ``infer``."""
        native = defaults(op) | {n: _tuple(v) for n, v in attrs.items() if v is not None}
        results = as_tuple(op.infer(*(_specs(o) for o in operands), **native))
        check_sizes(op.name.removeprefix("nn."), results)
        folded = fold(op, operands, native, results)
        if folded is not None:
            return folded
        told = hints(op, operands, native, results[0]) if len(results) == 1 else None
        if told is not None and is_whole(told, results[0].dtype):
            return (symbolic(told, results[0].dtype),)
        made = op.make(*(self._ssas(o) for o in operands), **attrs)
        self.append(made)
        found = [Value(spec(r), ssa=r) for r in made.results]
        found[0].hints = told
        return tuple(found)

    def append(self, op: Operation) -> None:
        """Put an operator at the end of the current block."""
        self.scopes[-1].block.add_op(op)
        made_by = self.module.origins.setdefault(op.name, [])
        if self.node and made_by[-1:] != [self.node]:
            made_by.append(self.node)

    def map(self, fn: str, *xs: Value | Number) -> Value:
        """``nn.map``; a Python number takes the element type of the last tensor operand."""
        like = next(x for x in reversed(xs) if isinstance(x, Value))
        values = [x if isinstance(x, Value) else self.scalar(x, like.dtype) for x in xs]
        return self.make(MapOp, values, fn=fn)

    def convert(self, x: Value, to: DType, *, saturate: bool = False) -> Value:
        """``x`` as element type ``to``; itself when it is of that type already."""
        if x.hints is not None and x.dtype.is_float and to.is_integer:
            self.symbols.imply(limit for e in x.hints.reshape(-1) for limit in limits(e).items())
        return x if x.dtype is to else self.make(ConvertOp, x, to=to, saturate=saturate)

    def reshape(self, x: Value, dims: Iterable[ExprLike]) -> Value:
        """``x`` under another shape, given in full."""
        shape = tuple(map(as_expr, dims))
        return x if shape == x.dims else self.make(ReshapeOp, x, shape=shape)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """``y.dims[i] = x.dims[perm[i]]``."""
        same = list(perm) == list(range(x.rank))
        return x if same else self.make(TransposeOp, x, perm=tuple(perm))

    def expand(self, x: Value, dims: Iterable[ExprLike]) -> Value:
        """``x`` broadcast to a shape, given in full."""
        shape = tuple(map(as_expr, dims))
        return x if shape == x.dims else self.make(ExpandOp, x, shape=shape)

    def slice(
        self,
        x: Value,
        starts: Sequence[ExprLike],
        sizes: Sequence[ExprLike],
        steps: Sequence[int] | None = None,
    ) -> Value:
        """``y[i] = x[starts + i * steps]``; one entry per axis, bounds in range."""
        steps = tuple(steps or [1] * x.rank)
        starts, sizes = tuple(map(as_expr, starts)), tuple(map(as_expr, sizes))
        if sizes == x.dims and all(s == 1 for s in steps) and all(s == 0 for s in starts):
            return x
        return self.make(SliceOp, x, starts=starts, sizes=sizes, steps=steps)

    def slice_axis(self, x: Value, axis: int, start: ExprLike, size: ExprLike) -> Value:
        """``size`` elements from ``start`` on along one axis."""
        axis = check_axis(axis, x.rank, "slice")
        starts = [start if i == axis else 0 for i in range(x.rank)]
        return self.slice(x, starts, [size if i == axis else d for i, d in enumerate(x.dims)])

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """The values one after the other along ``axis``."""
        if len(xs) == 1:
            return xs[0]
        return self.make(ConcatOp, tuple(xs), axis=check_axis(axis, xs[0].rank, "concat"))

    def reduce(self, fn: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
        """``nn.reduce`` along axes, which may count from the back."""
        axes = tuple(sorted({check_axis(a, x.rank, "reduce") for a in axes}))
        return self.make(ReduceOp, x, fn=fn, axes=axes, keepdims=keepdims)

    def iota(self, dims: Sequence[ExprLike], axis: int, dtype: DType = i64) -> Value:
        """``y[i] = i[axis]``."""
        return self.make(IotaOp, shape=tuple(map(as_expr, dims)), axis=axis, dtype=dtype)

    def broadcast(self, *xs: Value) -> tuple[Value, ...]:
        """The values expanded to their common shape."""
        dims = broadcast(*(x.dims for x in xs))
        return tuple(self.expand(x, dims) for x in xs)

    # -- known contents ----------------------------------------------------------------------

    def constant(self, array: Array | float, label: str = "") -> Value:
        """A tensor with these contents; E0402 for an element type that is not carried."""
        content = np.asarray(array, np.float32) if isinstance(array, float | int) else array
        try:
            return known(content, label)
        except KeyError:
            raise CompileError(
                "E0402", f"element type {content.dtype} has no support", [("tensor", label)]
            ) from None

    def literal(self, tensor: Tensor) -> Value:
        """A tensor of the model as a constant."""
        return self.constant(tensor.array, tensor.name)

    def scalar(self, value: Number, dtype: DType) -> Value:
        """A rank-0 constant."""
        return known(np.asarray(value).astype(dtype.numpy))

    def filled(self, dims: Iterable[ExprLike], value: Number, dtype: DType) -> Value:
        """A tensor with one value everywhere."""
        return self.expand(self.scalar(value, dtype), dims)

    def sizes(self, values: Sequence[ExprLike], dtype: DType = i64) -> Value:
        """A vector of sizes as a tensor."""
        content = np.empty(len(values), object)
        content[:] = [as_expr(v) for v in values]
        return symbolic(content, dtype)

    def size(self, value: ExprLike, dtype: DType = i64) -> Value:
        """One size as a rank-0 tensor."""
        return self.reshape(self.sizes([value], dtype), ())

    def array(self, node: Call, x: Value, what: str) -> Array:
        """The contents of an input that must be known; E0405 when only the run decides them."""
        if x.array is None:
            raise self.not_known(node, what, x)
        return x.array

    def not_known(self, node: Call, what: str, *values: Value | None) -> NotKnown:
        """The refusal (E0405) when ``values`` must be known and are not; for a rule to raise."""
        inputs = sorted({n for v in values if v is not None for n in self.sources(v)})
        return NotKnown(
            "E0405",
            f"{node.node.label}: {what} must be known when the model is compiled",
            [("decided by", ", ".join(map(quoted, inputs)) or "the data")],
            "make it a constant of the model",
            inputs=tuple(inputs),
        )

    def sources(self, x: Value) -> tuple[str, ...]:
        """Names of the entry's inputs that ``x`` is computed from."""
        entry = self.scopes[0].block.parent_op()
        assert isinstance(entry, EntryOp), "the outermost block is the entry's"
        found, seen, todo = set[str](), set[SSAValue](), [self.ssa(x)]
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            if isinstance(value.owner, Operation):
                todo.extend(value.owner.operands)
            elif value.owner is self.scopes[0].block:
                found.add(entry.inputs.data[self.scopes[0].block.args.index(value)])
        return tuple(sorted(found))

    def ints(self, node: Call, x: Value, what: str) -> list[int]:
        """The integers of such an input, in row-major order."""
        return [int(v) for v in self.array(node, x, what).reshape(-1)]

    def number(self, node: Call, x: Value, what: str) -> float:
        """The one number of such an input."""
        return float(self.array(node, x, what).reshape(-1)[0])

    def exprs(self, x: Value) -> tuple[Expr, ...] | None:
        """The contents of an integer tensor as expressions, or None when the run decides them."""
        if x.content is None:
            return None
        items = x.content.reshape(-1)
        return tuple(v if isinstance(v, Expr) else as_expr(int(v)) for v in items)

    def dims_from(
        self, x: Value, hi: Sequence[Expr | int | None] | None = None
    ) -> tuple[Expr, ...]:
        """Sizes from an integer vector: its known contents, or new symbols that the run binds.

        ``hi`` limits each of them, where the caller knows a limit.
        """
        if x.dtype.is_float:
            x = self.convert(x, i64)
        given = self.exprs(x)
        if given is not None:
            return given
        count = self.length(x)
        dims: list[Expr | None] = [None] * count if x.hints is None else list(x.hints)
        unknown = [i for i, d in enumerate(dims) if d is None]
        if len(unknown) < count:
            x = self.make(GatherOp, x, self.constant(np.array(unknown, np.int64)), axis=0)
        limits = [None if hi is None else _limit(hi[i]) for i in unknown]
        fresh = [self.symbols.fresh("n", 0, limit) for limit in limits]
        self.bind(x, fresh)
        rest = iter(fresh)
        return tuple(next(rest) if d is None else d for d in dims)

    def length(self, x: Value) -> int:
        """The number of elements of a vector of sizes, bounds or axes; E0402 when it is open."""
        count = x.spec.size.constant
        if count is None:
            raise CompileError(
                "E0402",
                "how many sizes there are is decided by the data",
                [("size", x.spec.size)],
                "export the model with a fixed number of dimensions",
            )
        return count

    def bind(self, x: Value, symbols: Sequence[Expr]) -> None:
        """Give symbols their run-time values from an integer vector."""
        self.append(BindDimsOp.make(self.ssa(self.convert(x, i64)), symbols=tuple(symbols)))

    # -- SSA values and blocks ---------------------------------------------------------------

    def ssa(self, x: Value) -> SSAValue:
        """The SSA value, made now if there is none: constants first of all in the entry."""
        if x.ssa is not None:
            return x.ssa
        for scope in self.scopes:
            if x in scope.made:
                return scope.made[x]
        assert x.content is not None, "a value has contents or an operator"
        return self._symbolic(x) if x.is_symbolic and x.array is None else self._constant(x)

    @contextmanager
    def into(self, scope: Scope) -> Generator[Scope]:
        """Append to the block of ``scope`` inside the ``with``: the body of a control operator."""
        self.scopes.append(scope)
        try:
            yield scope
        finally:
            self.scopes.pop()

    def splice(self, scope: Scope) -> None:
        """Move what was built in a block on its own to the end of the current block."""
        for op in list(scope.block.ops):
            op.detach()
            self.append(op)
        self.scopes[-1].made |= scope.made

    def graph(self, graph: Graph, inputs: Sequence[AnyValue]) -> list[AnyValue]:
        """Import a subgraph into the current block; returns its outputs."""
        assert self.import_graph is not None, "the importer has set itself"
        return self.import_graph(graph, inputs)

    def _constant(self, x: Value) -> SSAValue:
        assert x.array is not None, "constants are numbers"
        op = self.module.constant(x.array, x.label)
        self.scopes[0].block.add_op(op)
        return self.scopes[0].made.setdefault(x, op.results[0])

    def _symbolic(self, x: Value) -> SSAValue:
        exprs = self.exprs(x)
        assert exprs is not None, "only asked of known values"
        op = DimValuesOp.make(values=exprs)
        self.append(op)
        vector = Value(spec(op.results[0]), ssa=op.results[0])
        made = self.reshape(self.convert(vector, x.dtype), x.dims)
        return self.scopes[-1].made.setdefault(x, self.ssa(made))

    def _ssas(self, operand: Operand) -> Any:
        if operand is None:
            return None
        if isinstance(operand, Value):
            return self.ssa(operand)
        return tuple(self.ssa(v) for v in operand)


def _specs(operand: Operand) -> Any:
    if operand is None:
        return None
    if isinstance(operand, Value):
        return operand.spec
    return tuple(v.spec for v in operand)


def _tuple(value: Any) -> Any:
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


def _limit(value: Expr | int | None) -> int | None:
    return None if value is None else bounds(value)[1]

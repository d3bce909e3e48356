"""The reference meaning of a module: run it in numpy, operator by operator.

Every pass and every target is judged by this. Symbols get their values from the shapes of the
inputs, and while running from ``nn.bind_dims`` and operators whose result sizes data decides.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, as_symbol
from tapeout.ir.guards import Guard, op_guards, unmet
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp, as_tuple, bind
from tapeout.ir.ops.source import BindDimsOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, LoopOp, ReturnOp
from tapeout.ir.types import Spec, spec

Array = np.ndarray[Any, Any]


def evaluate(module: Module, inputs: Mapping[str, Array], entry: str = "main") -> dict[str, Array]:
    """Outputs by name of one entry for inputs by name.

    Raises CompileError E0208 when an input's shape does not fit its type, or the sizes are not
    what an operator relies on (:mod:`tapeout.ir.guards`).
    """
    op = next(e for e in module.entries() if e.sym_name.data == entry)
    run = Evaluator(module)
    arrays = [np.asarray(inputs[name]) for name in op.inputs.data]
    run.bind_inputs(op, arrays)
    results = run.block(op.body.block, arrays)
    return dict(zip(op.outputs.data, results, strict=True))


class Evaluator:
    """Values of symbols and of SSA values while a module runs."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.symbols: dict[str, int] = {}
        self.values: dict[SSAValue, Array] = {}
        self.kernels = module.kernels()
        # Guards of the operators that ran: a loop's body runs many times.
        self.guards: dict[Operation, tuple[Guard, ...]] = {}

    def bind_inputs(self, entry: EntryOp, arrays: Sequence[Array]) -> None:
        """Solve the symbols of dimensions, those of bare ones first, then check every one."""
        wanted = [spec(value) for value in entry.body.block.args]
        pairs = list(zip(entry.inputs.data, wanted, arrays, strict=True))
        for name, want, array in pairs:
            self.bind_shape(name, want, array.shape)
        mixed = [p for _, s, a in pairs for p in zip(s.dims, a.shape, strict=True)]
        for dim, size in mixed:
            self.solve(dim, size)
        for name, want, array in pairs:
            self.bind_shape(name, want, array.shape)

    def solve(self, dim: Expr, size: int) -> None:
        """Bind the one unknown symbol of a dimension that is linear in it, ``2*N`` or ``N + 1``."""
        unknown = [s for s in dim.symbols() if s.name not in self.symbols]
        factor = dim.coefficient(unknown[0]) if len(unknown) == 1 else None
        if factor is not None and factor.constant:
            rest = self.number(dim.substitute({unknown[0]: 0}))
            self.symbols[unknown[0].name] = (size - rest) // factor.constant

    def bind_shape(self, name: str, want: Spec, shape: tuple[int, ...]) -> None:
        """Match one type against an actual shape; binds symbols seen for the first time."""
        if len(shape) != want.rank:
            raise _misfit(name, want, shape)
        for dim, size in zip(want.dims, shape, strict=True):
            known = as_symbol(dim)
            if known is not None and known.name not in self.symbols:
                self.symbols[known.name] = size
            if all(s.name in self.symbols for s in dim.symbols()) and self.number(dim) != size:
                raise _misfit(name, want, shape)

    def number(self, value: Expr) -> int:
        """An expression under the current symbol values."""
        return value.evaluate(self.symbols)

    def block(self, block: Block, arguments: Sequence[Array]) -> list[Array]:
        """Run a block; returns the values of its terminator."""
        self.values.update(zip(block.args, arguments, strict=True))
        for op in block.ops:
            self.check(op)
            if isinstance(op, ReturnOp):
                return [self.values[v] for v in op.values]
            results = self.run(op)
            for result, array in zip(op.results, results, strict=True):
                self.values[result] = array
                want = spec(result)
                self.bind_shape(op.name, want, array.shape)
                assert array.dtype == want.dtype.numpy, f"{op.name}: {array.dtype} for {want}"
        raise AssertionError("a block ends in nn.return")

    def check(self, op: Operation) -> None:
        """E0208 when the sizes are not what an operator relies on."""
        if op not in self.guards:
            self.guards[op] = op_guards(op)
        for each in self.guards[op]:
            if not each.holds(self.symbols):
                raise unmet(each, self.symbols)

    def run(self, op: Operation) -> Sequence[Array]:
        """Run one operator on the current values."""
        if isinstance(op, WeightOp):
            return [self.module.weights[op.symbol.data]]
        if isinstance(op, BindDimsOp):
            sizes = self.values[op.x]
            names = [s for e in op.symbols.data for s in e.symbols()]
            self.symbols.update({s.name: int(v) for s, v in zip(names, sizes, strict=True)})
            return []
        if isinstance(op, CallOp):
            kernel = self.kernels[op.callee.data]
            inner = Evaluator(self.module)
            inner.symbols, inner.guards = dict(self.symbols), self.guards
            return inner.block(kernel.body.block, [self.values[a] for a in op.args])
        if isinstance(op, IfOp):
            region = op.then if bool(self.values[op.condition]) else op.otherwise
            return self.block(region.block, [])
        if isinstance(op, LoopOp):
            return self.loop(op)
        assert isinstance(op, NNOp), f"{op.name} has no reference"
        arrays = [self.gather(argument) for argument in op.arguments()]
        attrs = op.attrs()
        decided = {name: attrs.pop(name) for name in op.DECIDES}
        for name in decided:
            # The size of the result will bind it; a loop may have bound it in an earlier turn.
            self.symbols.pop(str(decided[name][0]), None)
            attrs[name] = None
        results = type(op).reference(*arrays, **bind(self.symbols, attrs))
        return [np.asarray(r) for r in as_tuple(results)]

    def gather(self, argument: Any) -> Any:
        """Arrays of one operand group."""
        if argument is None:
            return None
        if isinstance(argument, SSAValue):
            return self.values[argument]
        return tuple(self.values[v] for v in argument)

    def loop(self, op: LoopOp) -> list[Array]:
        """Run a loop to its end, stacking what it scans."""
        trips, going = int(self.values[op.trips]), bool(self.values[op.condition])
        carried = [self.values[v] for v in op.carried]
        scans = op.scans.data
        slices: list[list[Array]] = []
        step = 0
        while step < trips and going:
            arguments = [np.int64(step), np.bool_(going), *carried]
            condition, *rest = self.block(op.body.block, [np.asarray(a) for a in arguments])
            going, carried = bool(condition), rest[: len(carried)]
            slices.append(rest[len(carried) :])
            step += 1
        self.symbols.update({s.name: step for s in op.count.data[0].symbols()})
        return [*carried, *(self.stack(op, i, slices) for i in range(scans))]

    def stack(self, op: LoopOp, index: int, slices: Sequence[Sequence[Array]]) -> Array:
        """The ``index``-th scanned output; its inner shape comes from the type if none ran."""
        if slices:
            return np.stack([s[index] for s in slices])
        want = spec(op.ys[len(op.carried) + index])
        known = [all(s.name in self.symbols for s in d.symbols()) for d in want.dims[1:]]
        inner = [self.number(d) if k else 0 for d, k in zip(want.dims[1:], known, strict=True)]
        return np.zeros((0, *inner), want.dtype.numpy)


def _misfit(name: str, want: Spec, shape: tuple[int, ...]) -> CompileError:
    return CompileError(
        "E0208",
        f"{name}: the shape does not fit the type",
        [("type", ", ".join(map(str, want.dims))), ("shape", list(shape))],
    )

"""Constant folding: compute once, at compile time, what no input decides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp, Operand, as_tuple, bind
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.ops.source import BindDimsOp, ConstantOp, WeightOp
from tapeout.ir.ops.structure import IfOp, ReturnOp
from tapeout.ir.ops.views import ExpandOp, ReshapeOp, TransposeOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.manager import Pass
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

# Above this folding would hold the compiler up for seconds in the reference.
_FLOPS = 200_000_000


@dataclass(frozen=True)
class Fold(Pass):
    """Replace operators on fixed tensors by their values; saves running them at every call.

    ``limit``: MiB that one result may grow beyond its operands together. What stays is small
    beside the weights, or is a view of them.
    """

    name = "fold"
    limit: int = 64
    # An expansion of one number costs nothing until it is packed, so it may be as large as a
    # weight: models that ship without trained weights have only such.
    expand_limit: int = 1024

    def apply(self, module: Module) -> None:
        """Fold to the end."""
        drive(module, [FoldOperator(self.limit << 20, self.expand_limit << 20), FixedIf()])


@dataclass(frozen=True)
class FoldOperator(Pattern[NNOp]):
    """``f(constants) = constant``."""

    root = NNOp
    limit: int
    expand_limit: int

    def _rewrite(self, op: NNOp, edit: Edit) -> Replacement:
        # What is quantised stays so: products read its codes.
        if isinstance(op, ConstantOp | WeightOp | BindDimsOp | DequantizeOp) or not op.operands:
            return None
        arrays = {v: edit.array(v) for v in op.operands}
        if any(a is None or a.dtype.kind == "O" for a in arrays.values()):
            return None
        if not self.allowed(op):
            return None

        def fixed(argument: Operand) -> Any:
            if argument is None or isinstance(argument, SSAValue):
                return None if argument is None else arrays[argument]
            return tuple(arrays[v] for v in argument)

        given = [fixed(a) for a in op.arguments()]
        try:
            with np.errstate(all="ignore"):
                results = as_tuple(type(op).reference(*given, **bind({}, op.attrs())))
        except IndexError:
            # A fixed index outside its axis is a matter of run time, where it is clamped.
            return None
        return [edit.derived(np.asarray(r), *op.operands) for r in results]

    def allowed(self, op: NNOp) -> bool:
        """Whether sizes are known, and folding neither takes long nor copies much."""
        results = [spec(r) for r in op.results]
        if not all(_fixed(r.dims) for r in results) or not all(_fixed(v) for v in _tuples(op)):
            return False
        grown = sum(map(_bytes, results)) - sum(_bytes(spec(v)) for v in op.operands)
        if isinstance(op, ExpandOp):
            return grown <= self.expand_limit and not _repeats_for_maps(op)
        if isinstance(op, TransposeOp | ReshapeOp):
            # Someone else reads the weight as it lies: a second copy would double the file.
            return bool(op.x.has_one_use()) or _bytes(spec(op.x)) <= 1 << 20
        flops = op.flops()
        return grown <= self.limit and int(flops) <= _FLOPS


def _repeats_for_maps(op: ExpandOp) -> bool:
    """Whether only maps read it, which repeat by themselves what is small to hold."""
    array_is_small = _bytes(spec(op.y)) <= 4096
    return not array_is_small and all(isinstance(u.operation, MapOp) for u in op.y.uses)


def _tuples(op: NNOp) -> list[tuple[object, ...]]:
    return [v for v in op.attrs().values() if isinstance(v, tuple)]


def _fixed(values: tuple[object, ...]) -> bool:
    return all(v.constant is not None for v in values if isinstance(v, Expr))


def _bytes(value: Spec) -> int:
    return int(value.bytes)


class FixedIf(Pattern[IfOp]):
    """``if(true, a, b) = a``: the chosen region's operators take the place of the branch."""

    root = IfOp

    def _rewrite(self, op: IfOp, edit: Edit) -> Replacement:
        condition = edit.array(op.condition)
        if condition is None:
            return None
        block = (op.then if bool(condition) else op.otherwise).block
        last = block.last_op
        assert isinstance(last, ReturnOp), "a branch ends in nn.return"
        values = list(last.values)
        if any(v.type != r.type for v, r in zip(values, op.results, strict=True)):
            return None
        moved: list[Operation] = [o for o in block.ops if o is not last]
        last.detach()
        last.erase()
        for inner in moved:
            inner.detach()
            edit.put(inner)
        return values

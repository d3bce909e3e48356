"""Residual sums of convolutional networks: what is added comes from memory, and may be codes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.types import spec
from tapeout.passes.match import only_use


@dataclass(frozen=True)
class Residual:
    """``op`` adds to a convolution's result what lies in memory: its operand at ``place``."""

    op: MapOp
    place: int

    @property
    def value(self) -> SSAValue:
        """What lies in memory."""
        return self.op.xs[self.place]


def residuals(module: Module, layers: Collection[Operation]) -> Iterator[Residual]:
    """The sums of which one operand comes from the registers of a convolution among ``layers``.

    Where both could, the second lies in memory, as kernels are formed. Only convolutions: their
    results are large beside their weights. In a transformer the sums are small beside the weights,
    and hold the few large numbers that a scale per tensor would have to cover.
    """
    for op in module.ir.walk():
        if not isinstance(op, MapOp) or op.fn.data != "add" or spec(op.y).dtype is not f32:
            continue
        a, b = op.xs
        if spec(a).dims != spec(b).dims:
            continue
        in_registers = [_ends(x, layers) for x in (a, b)]
        if any(in_registers):
            found = Residual(op, 1 if in_registers[0] else 0)
            if not isinstance(found.value.owner, ConstantOp | WeightOp | DequantizeOp):
                yield found


def _ends(value: SSAValue, layers: Collection[Operation]) -> bool:
    """Whether maps of one operand lead from a convolution to ``value``, and nowhere else."""
    while only_use(value) and isinstance(value.owner, MapOp) and len(value.owner.xs) == 1:
        value = value.owner.xs[0]
    return only_use(value) and isinstance(value.owner, ConvOp) and value.owner in layers

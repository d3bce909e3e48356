"""What a module costs to run once: floating-point operations and bytes, as expressions.

Bytes are operands plus results of every operator, each from and to main memory: what a compiler
without fusion would move. Constants and weights count where they are read, not where they stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.expr import ZERO, Expr, as_expr, maximum
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import CallOp, IfOp, KernelOp, LoopOp
from tapeout.ir.types import spec, specs


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes moved."""

    flops: Expr = ZERO
    bytes: Expr = ZERO

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def bytes_moved(op: Operation) -> Expr:
    """Bytes that one operator reads and writes."""
    read = sum((bytes_read(op, i) for i in range(len(op.operands))), ZERO)
    return read + sum((s.bytes for s in specs(op.results)), ZERO)


def bytes_read(op: Operation, operand: int) -> Expr:
    """Bytes of one operand, as far as an operator reads it."""
    return op.bytes_read(operand) if isinstance(op, NNOp) else spec(op.operands[operand]).bytes


def cost_of(module: Module, entry: str = "main") -> Cost:
    """One run of an entry; a branch counts its dearer side, a loop one turn."""
    op = next(e for e in module.entries() if e.sym_name.data == entry)
    return _block_cost(module, op.body.block)


def kernel_cost(kernel: KernelOp) -> Cost:
    """One call of a kernel: the work of its operators, the bytes of its operands and results."""
    flops = sum((as_expr(op.flops()) for op in kernel.walk() if isinstance(op, NNOp)), ZERO)
    read = sum((_argument_bytes(value) for value in kernel.body.block.args), ZERO)
    return Cost(flops, read + sum((s.bytes for s in specs(kernel.returned)), ZERO))


def _argument_bytes(value: SSAValue) -> Expr:
    """What the hungriest reader reads: the others find it in registers or a cache."""
    uses = [bytes_read(use.operation, use.index) for use in value.uses]
    return reduce(maximum, uses, ZERO)


def _block_cost(module: Module, block: Block) -> Cost:
    return _total(_operation_cost(module, op) for op in block.ops)


def _total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def _operation_cost(module: Module, op: Operation) -> Cost:
    match op:
        case ConstantOp() | WeightOp():
            return Cost()
        case CallOp():
            return _block_cost(module, module.kernels()[op.callee.data].body.block)
        case LoopOp():
            return _block_cost(module, op.body.block)
        case IfOp():
            sides = [_block_cost(module, r.block) for r in (op.then, op.otherwise)]
            return _dearer(*sides)
        case NNOp():
            return Cost(as_expr(op.flops()), bytes_moved(op))
        case _:
            return Cost()


def _dearer(a: Cost, b: Cost) -> Cost:
    return Cost(maximum(a.flops, b.flops), maximum(a.bytes, b.bytes))

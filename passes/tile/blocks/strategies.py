"""Which strategy of blocks lowers which kernel; kernels without one run as on any other machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from xdsl.ir import Operation

from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.paged import PagedAttentionOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.structure import KernelOp, ReturnOp
from tapeout.passes.tile import strategies as common
from tapeout.passes.tile.blocks.attention import lower_attention
from tapeout.passes.tile.blocks.conv import lower_conv
from tapeout.passes.tile.blocks.few_rows import lower_few_rows
from tapeout.passes.tile.blocks.grouped import lower_grouped
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.paged import lower_paged_attention
from tapeout.passes.tile.blocks.product import lower_matmul
from tapeout.passes.tile.blocks.rows import lower_rows
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.pull import RULES, NotPullable
from tapeout.passes.tile.unify import unified

Strategy = Callable[[KernelOp, BlockMachine, Set[int]], Lowered]

STRATEGIES: Mapping[type[Operation], Sequence[Strategy]] = {
    MatmulOp: (lower_few_rows, lower_matmul),
    ConvOp: (lower_conv,),
    AttentionOp: (lower_attention,),
    GroupedMatmulOp: (lower_grouped,),
    PagedAttentionOp: (lower_paged_attention,),
}


LINES = Machine(lanes=64, tile_m=2, tile_n=64, l1_bytes=1 << 17, l2_bytes=1 << 25)
"""As what a machine of blocks runs kernels of strategies that it has no own one for."""


def lower_kernel(kernel: KernelOp, machine: BlockMachine, constants: Set[int]) -> Lowered:
    """The tile program of a kernel; E0403 names an operator without a strategy."""
    kernel = unified(kernel)
    kinds = [type(op) for op in kernel.body.block.ops]
    for strategy in (each for kind in kinds for each in STRATEGIES.get(kind, ())):
        try:
            return strategy(kernel, machine, constants)
        except NotPullable:
            continue
    if not any(kind in common.STRATEGIES and kind not in RULES for kind in kinds):
        plain = common.decomposed(kernel)
        rows = (ReduceOp, ReturnOp, *RULES)
        if all(isinstance(op, rows) for op in plain.body.block.ops):
            try:
                return Lowered(lower_rows(plain, machine))
            except NotPullable:
                pass
    return common.lower_kernel(kernel, LINES, constants)

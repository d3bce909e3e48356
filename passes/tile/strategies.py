"""Which strategy lowers which kernel, and what it asks of constant operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.ir import Operation
from xdsl.rewriter import InsertPoint

from tapeout.ir.cost import kernel_cost
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp, ExpertMatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.index import ScatterElementsOp, ScatterNdOp
from tapeout.ir.ops.linalg import DetOp
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.ops.paged import PagedAttentionOp, WriteSlotsOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.recurrence import StateConvOp, StateScanOp
from tapeout.ir.ops.recurrent import GruOp, LstmOp, RnnOp
from tapeout.ir.ops.reduce import CumulativeOp, ReduceOp
from tapeout.ir.ops.sort import NmsOp, NonZeroOp, TopKOp, UniqueOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.ir.ops.structure import CallOp, EntryOp, KernelOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import ExprsAttr
from tapeout.passes.fuse.groups import Roots
from tapeout.passes.tile.attention import lower_attention
from tapeout.passes.tile.concat import lower_concat
from tapeout.passes.tile.conv import lower_conv
from tapeout.passes.tile.cumulative import lower_cumulative
from tapeout.passes.tile.det import lower_det
from tapeout.passes.tile.experts import lower_experts
from tapeout.passes.tile.experts_grouped import lower_experts_grouped
from tapeout.passes.tile.grouped import lower_grouped
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.looked_up import lower_looked_up
from tapeout.passes.tile.nms import lower_nms
from tapeout.passes.tile.non_zero import lower_non_zero
from tapeout.passes.tile.paged import lower_paged_attention, lower_write_slots
from tapeout.passes.tile.product import lower_matmul
from tapeout.passes.tile.pull import RULES, NotPullable
from tapeout.passes.tile.recurrence import lower_state_conv, lower_state_scan
from tapeout.passes.tile.recurrent import lower_recurrent
from tapeout.passes.tile.rows import lower_rows
from tapeout.passes.tile.scatter import lower_scatter
from tapeout.passes.tile.sparse import lower_block_sparse
from tapeout.passes.tile.top_k import lower_top_k
from tapeout.passes.tile.unify import unified
from tapeout.passes.tile.unique import lower_unique
from tapeout.passes.tile.window import lower_window
from tapeout.passes.tile.winograd import lower_winograd

Strategy = Callable[[KernelOp, Machine, Set[int]], Lowered]


@dataclass(eq=False)
class NoStrategy(CompileError):
    """E0403: nothing lowers ``operators``."""

    operators: tuple[str, ...] = ()


STRATEGIES: Mapping[type[Operation], Sequence[Strategy]] = {
    MatmulOp: (lower_matmul,),
    ExpertMatmulOp: (lower_experts,),
    ExpertGroupedMatmulOp: (lower_experts_grouped,),
    GroupedMatmulOp: (lower_looked_up, lower_grouped),
    BlockSparseMatmulOp: (lower_block_sparse,),
    PoolOp: (lower_window,),
    ConvOp: (lower_winograd, lower_window, lower_conv),
    AttentionOp: (lower_attention,),
    ConcatOp: (lower_concat,),
    CumulativeOp: (lower_cumulative,),
    ScatterElementsOp: (lower_scatter,),
    ScatterNdOp: (lower_scatter,),
    PagedAttentionOp: (lower_paged_attention,),
    WriteSlotsOp: (lower_write_slots,),
    StateConvOp: (lower_state_conv,),
    StateScanOp: (lower_state_scan,),
    TopKOp: (lower_top_k,),
    DetOp: (lower_det,),
    LstmOp: (lower_recurrent,),
    GruOp: (lower_recurrent,),
    RnnOp: (lower_recurrent,),
    NonZeroOp: (lower_non_zero,),
    UniqueOp: (lower_unique,),
    NmsOp: (lower_nms,),
}
"""By the operator that a kernel is built around; the first that takes the kernel lowers it."""

NORMS = (SoftmaxOp, LayerNormOp, RmsNormOp)
ROOTS = Roots(
    epilogue=(
        ReduceOp,
        MatmulOp,
        ExpertMatmulOp,
        GroupedMatmulOp,
        BlockSparseMatmulOp,
        ConvOp,
        PoolOp,
        AttentionOp,
        *NORMS,
    ),
    prologue=(ReduceOp, *NORMS),
    views=(MatmulOp, AttentionOp),
    moved=(ConvOp, PoolOp, AttentionOp),
)


def lower_kernel(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a kernel, with its work; ``constants`` are the weight operands.

    E0403 names an operator without a strategy.
    """
    kernel = unified(kernel)
    lowered = _lower(kernel, machine, constants)
    lowered.program.properties["work"] = ExprsAttr((work(kernel),))
    return lowered


def work(kernel: KernelOp) -> Expr:
    """Arithmetic operations of a kernel plus the words that it moves."""
    cost = kernel_cost(kernel)
    return cost.flops + cost.bytes // 4


def _lower(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    for op in kernel.body.block.ops:
        for strategy in STRATEGIES.get(type(op), ()):
            try:
                return strategy(kernel, machine, constants)
            except NotPullable:
                continue
    plain = decomposed(kernel)
    others = [op for op in plain.body.block.ops if not isinstance(op, (ReduceOp, ReturnOp, *RULES))]
    if others:
        raise unsupported(others)
    try:
        return Lowered(lower_rows(plain, machine))
    except NotPullable as reason:
        names = [op for op in plain.body.block.ops if isinstance(op, tuple(RULES))]
        raise unsupported(names, str(reason)) from reason


def constant_operands(module: Module) -> dict[str, set[int]]:
    """Per kernel, the operands that are weights in every call."""
    found: dict[str, set[int]] = {}
    for entry in module.entries():
        for call in entry.walk():
            if isinstance(call, CallOp):
                here = {i for i, v in enumerate(call.args) if isinstance(v.owner, WeightOp)}
                found[call.callee.data] = found.get(call.callee.data, here) & here
    return found


def decomposed(kernel: KernelOp) -> KernelOp:
    """The kernel with every operator that has no rule, but a decomposition, replaced by it."""
    copy = kernel.clone()
    changed = True
    while changed:
        changed = False
        for op in list(copy.body.block.ops):
            if not isinstance(op, NNOp):
                continue
            values = None if type(op) in RULES else op.decompose(Builder(InsertPoint.before(op)))
            if values is None:
                continue
            for old, new in zip(op.results, values, strict=True):
                old.replace_all_uses_with(new)
            op.detach()
            op.erase()
            changed = True
    return copy


def unsupported(ops: Sequence[Operation], reason: str = "") -> NoStrategy:
    """The refusal that lists operators without a strategy."""
    names = tuple(sorted({op.name for op in ops}))
    facts = [("reason", reason)] if reason else []
    what = f"no strategy lowers {', '.join(names)}"
    return NoStrategy("E0403", what, facts, "see `tapeout targets`", names)


def repack(module: Module, entry: EntryOp, lowered: Mapping[str, Lowered]) -> None:
    """Give each call the weights in the layout that its program wants."""
    made: dict[tuple[str, int, str], WeightOp] = {}
    for call in list(entry.walk()):
        if not isinstance(call, CallOp):
            continue
        for position, pack in lowered[call.callee.data].packs.items():
            weight = call.args[position].owner
            assert isinstance(weight, WeightOp), "only weights are packed"
            key = (weight.symbol.data, position, call.callee.data)
            if key not in made:
                array = pack(module.weights[weight.symbol.data])
                symbol = module.weights.add(array, module.weights.label(weight.symbol.data))
                dims = tuple(map(as_expr, array.shape))
                made[key] = WeightOp.make(symbol=symbol, shape=dims, dtype=weight.dtype.data)
                block = entry.body.block
                first = block.first_op
                assert first is not None, "the call itself is there"
                block.insert_op_before(made[key], first)
            call.operands[position] = made[key].y

"""Merge neighbouring axes that a kernel never tells apart: ``[2, 3, 4] + [2, 3, 4]`` is 1-D.

Only kernels of maps, conversions and reductions (with kept axes) qualify; buffers are dense, so
a merged axis is the same memory. Longer rows mean fewer loops and fewer cut vectors.
"""

from collections.abc import Sequence, Set

from xdsl.ir import Block, Operation, Region, SSAValue

from tapeout.ir.expr import Expr, product
from tapeout.ir.op import NNOp, Operand
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.ops.source import ConstantOp
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.ir.ops.structure import KernelOp, ReturnOp
from tapeout.ir.types import TensorType, spec


def iteration_dims(kernel: KernelOp) -> tuple[Expr, ...]:
    """The dimensions that a kernel of pointwise and reducing operators iterates over."""
    for op in kernel.body.block.ops:
        if isinstance(op, ReduceOp):
            return spec(op.x).dims
    return spec(kernel.returned[0]).dims


def collapsed(kernel: KernelOp) -> KernelOp:
    """An equivalent kernel with axes merged, or the same one when nothing merges."""
    kernel = kept_axes(kernel)
    ops = list(kernel.body.block.ops)
    if any(isinstance(o, ReduceOp) and not o.keepdims.data for o in ops):
        return kernel
    if not all(isinstance(o, MapOp | ConvertOp | ReduceOp | ConstantOp | ReturnOp) for o in ops):
        return kernel
    dims = iteration_dims(kernel)
    values = [*kernel.body.block.args, *(r for o in ops for r in o.results)]
    if any(len(spec(v).dims) > len(dims) for v in values):
        return kernel
    rank = len(dims)
    reduced = {a % rank for o in ops if isinstance(o, ReduceOp) for a in o.axes.data}
    groups = _groups(dims, values, reduced)
    if len(groups) == len(dims):
        return kernel
    return _rebuild(kernel, len(dims), groups)


def kept_axes(kernel: KernelOp) -> KernelOp:
    """Let reductions keep their axes at size 1 where nothing after them can tell the difference.

    That is so when what follows reads only what follows, and scalars.
    """
    ops = list(kernel.body.block.ops)
    after = {r for o in ops if isinstance(o, ReduceOp) and not o.keepdims.data for r in o.results}
    if not after:
        return kernel
    for op in ops:
        if any(v in after for v in op.operands) and not isinstance(op, ReturnOp):
            others = [v for v in op.operands if v not in after]
            if not isinstance(op, MapOp | ConvertOp) or any(spec(v).dims for v in others):
                return kernel
            after.update(op.results)
    block = Block(arg_types=[a.type for a in kernel.body.block.args])
    table: dict[SSAValue, SSAValue] = dict(zip(kernel.body.block.args, block.args, strict=True))
    for op in ops:
        made = op.clone(value_mapper=table) if isinstance(op, ReturnOp) else _kept(op, table)
        block.add_op(made)
        table.update(zip(op.results, made.results, strict=True))
    return KernelOp(kernel.sym_name.data, Region(block))


def _kept(op: Operation, table: dict[SSAValue, SSAValue]) -> Operation:
    assert isinstance(op, NNOp), f"{op.name} stands in a kernel"
    attrs = op.attrs()
    if isinstance(op, ReduceOp):
        rank = spec(op.x).rank
        attrs |= {"keepdims": True, "axes": tuple(a % rank for a in op.axes.data)}
    if not isinstance(op, MapOp | ConvertOp | ReduceOp):
        return op.clone(value_mapper=table)
    arguments = [_mapped(a, table) for a in op.arguments()]
    return type(op).make(*arguments, **attrs)


def _mapped(argument: Operand, table: dict[SSAValue, SSAValue]) -> Operand:
    if argument is None or isinstance(argument, SSAValue):
        return None if argument is None else table[argument]
    return [table[v] for v in argument]


def _pattern(value: SSAValue, dims: Sequence[Expr]) -> list[bool]:
    """Per axis of the iteration space, whether the value runs along it."""
    own = spec(value).dims
    missing = len(dims) - len(own)
    return [False] * missing + [d != 1 for d in own]


def _groups(dims: Sequence[Expr], values: Sequence[SSAValue], reduced: set[int]) -> list[list[int]]:
    patterns = [_pattern(v, dims) for v in values]
    groups: list[list[int]] = []
    for axis in range(len(dims)):
        if groups:
            # Axes of size 1 between two others tell nothing of whether those merge.
            wide = [a for a in groups[-1] if dims[a] != 1]
            before = wide[-1] if wide else groups[-1][-1]
            ones = dims[axis] == 1 or dims[before] == 1
            same = all(p[axis] == p[before] for p in patterns)
            alike = (axis in reduced) == (before in reduced)
            if alike and (same or (ones and _one_is_free(dims, before, axis, reduced))):
                groups[-1].append(axis)
                continue
        groups.append([axis])
    return groups


def _one_is_free(dims: Sequence[Expr], a: int, b: int, reduced: set[int]) -> bool:
    """An axis of size 1 merges with a neighbour whatever runs along that one."""
    return (dims[a] == 1 or dims[b] == 1) and a not in reduced and b not in reduced


def rebuilt(
    kernel: KernelOp, rank: int, groups: Sequence[Sequence[int]], fixed: Set[SSAValue]
) -> KernelOp | None:
    """The kernel with axes merged in ``groups``, ``fixed`` operands left as they are.

    None when some value runs along a part of a group only, or an operator cannot be remade.
    """
    values = [*kernel.body.block.args, *(r for o in kernel.body.block.ops for r in o.results)]
    allowed = (
        MapOp | ConvertOp | ConstantOp | ReturnOp | MatmulOp | GroupedMatmulOp | BlockSparseMatmulOp
    )
    if not all(isinstance(o, allowed) for o in kernel.body.block.ops):
        return None
    for value in values:
        own = spec(value).dims
        if value not in fixed and own and not _merges(own, rank, groups, iteration_dims(kernel)):
            return None
    return _rebuild(kernel, rank, groups, fixed)


def _merges(
    own: Sequence[Expr], rank: int, groups: Sequence[Sequence[int]], dims: Sequence[Expr]
) -> bool:
    """Whether a value runs along all of each group or none of it; axes of size 1 do not count."""
    along = [False] * (rank - len(own)) + [d != 1 for d in own]
    long = [[a for a in axes if dims[a] != 1] for axes in groups]
    return len(own) <= rank and all(len({along[a] for a in axes}) <= 1 for axes in long)


def _rebuild(
    kernel: KernelOp,
    rank: int,
    groups: Sequence[Sequence[int]],
    fixed: Set[SSAValue] = frozenset(),
) -> KernelOp:
    where = {axis: g for g, axes in enumerate(groups) for axis in axes}

    def merged(value: SSAValue) -> TensorType:
        own = spec(value).dims
        if not own or value in fixed:
            return TensorType(spec(value))
        missing = rank - len(own)
        sizes = [[own[a - missing] for a in axes if a >= missing] for axes in groups]
        return TensorType(spec(value).with_dims(product(s) for s in sizes))

    block = Block(arg_types=[merged(a) for a in kernel.body.block.args])
    table: dict[SSAValue, SSAValue] = dict(zip(kernel.body.block.args, block.args, strict=True))
    for op in kernel.body.block.ops:
        made = _remade(op, table, where)
        block.add_op(made)
        table.update(zip(op.results, made.results, strict=True))
    return KernelOp(kernel.sym_name.data, Region(block))


def _remade(op: Operation, table: dict[SSAValue, SSAValue], where: dict[int, int]) -> Operation:
    if isinstance(op, ReturnOp):
        return ReturnOp([table[v] for v in op.values])
    assert isinstance(op, NNOp), f"{op.name} is not merged"
    if isinstance(op, ConstantOp):
        return op.clone()
    arguments = [_mapped(a, table) for a in op.arguments()]
    attrs = op.attrs()
    if isinstance(op, ReduceOp):
        rank = spec(op.x).rank
        attrs["axes"] = tuple(sorted({where[a % rank] for a in attrs["axes"]}))
    return type(op).make(*arguments, **attrs)

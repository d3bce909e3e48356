"""Move every group into a kernel and call it; groups that are equal share one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, Region, SSAValue

from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import CallOp, KernelOp, ReturnOp
from tapeout.ir.types import TensorType, spec
from tapeout.passes.fuse.groups import (
    CHEAP,
    STEPS,
    Group,
    escaping_results,
    external_operands,
    form_groups,
    kinds,
)
from tapeout.passes.manager import Pass
from tapeout.passes.tile.strategies import ROOTS


@dataclass(frozen=True)
class Fuse(Pass):
    """Form kernels; saves the memory traffic between their operators, and equal kernels' code."""

    name = "fuse"

    def apply(self, module: Module) -> None:
        """Outline every group of every entry and of regions nested in them."""
        library = _Library(module)
        for entry in list(module.entries()):
            for block in _blocks(entry):
                self._outline(block, library)

    def _outline(self, block: Block, library: _Library) -> None:
        _literals_to_weights(block, library.module)
        for group in form_groups(block, ROOTS):
            if escaping_results(group):
                _call_instead(group, block, library)
        for op in reversed(list(block.ops)):
            if isinstance(op, CHEAP) and not any(r.uses for r in op.results):
                op.detach()
                op.erase()


def _call_instead(group: Group, block: Block, library: _Library) -> None:
    """Replace a group by a call of its kernel, where its last operator stood."""
    results, operands = escaping_results(group), external_operands(group)
    name = library.kernel(group, operands, results)
    call = CallOp(name, operands, [TensorType(spec(r)) for r in results])
    block.insert_op_before(call, group.ops[-1])
    for old, new in zip(results, call.results, strict=True):
        for use in [u for u in old.uses if not group.inside(u.operation)]:
            use.operation.operands[use.index] = new
    for op in reversed(group.ops):
        op.detach()
        op.erase(safe_erase=False)


def _blocks(op: Operation) -> list[Block]:
    """Every block inside an operator, outer ones first."""
    found: list[Block] = []
    for region in op.regions:
        for block in region.blocks:
            found.append(block)
            for inner in block.ops:
                found.extend(_blocks(inner))
    return found


def _literals_to_weights(block: Block, module: Module) -> None:
    """A literal of several elements that a kernel or the caller reads needs memory."""
    for op in list(block.ops):
        if not isinstance(op, ConstantOp):
            continue
        array = op.value.data.array
        read = any(isinstance(u.operation, ReturnOp) or u.operation.regions for u in op.y.uses)
        if array.size == 1 and not read and not _feeds_step(op):
            continue
        dims = tuple(map(as_expr, array.shape))
        weight = WeightOp.make(
            symbol=module.weights.add(array, "literal"), shape=dims, dtype=spec(op.y).dtype.name
        )
        block.insert_op_before(weight, op)
        op.y.replace_all_uses_with(weight.y)
        op.detach()
        op.erase()


def _feeds_step(op: ConstantOp) -> bool:
    return any(isinstance(u.operation, STEPS) for u in op.y.uses)


class _Library:
    """Kernels made so far, by their text."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.names: dict[str, str] = {}

    def kernel(
        self, group: Group, operands: Sequence[SSAValue], results: Sequence[SSAValue]
    ) -> str:
        """The name of the kernel that computes a group, made when there is none yet."""
        region = _region(group, operands, results)
        made = KernelOp("", region)
        text = str(made)
        if text not in self.names:
            words = list(dict.fromkeys(kinds(group)))
            name = "_".join([f"k{len(self.names)}", *words[:4]])
            made.properties["sym_name"] = StringAttr(name)
            self.names[text] = name
            block = self.module.ir.body.block
            first = block.first_op
            assert first is not None, "a module with calls has an entry"
            entry = next(iter(self.module.entries()))
            block.insert_op_before(made, entry)
        return self.names[text]


def _region(group: Group, operands: Sequence[SSAValue], results: Sequence[SSAValue]) -> Region:
    block = Block(arg_types=[TensorType(spec(v)) for v in operands])
    table: dict[SSAValue, SSAValue] = dict(zip(operands, block.args, strict=True))
    for op in group.ops:
        for value in op.operands:
            if value not in table and isinstance(value.owner, CHEAP):
                copy = value.owner.clone()
                block.add_op(copy)
                table.update(zip(value.owner.results, copy.results, strict=True))
        block.add_op(op.clone(value_mapper=table))
    block.add_op(ReturnOp([table[v] for v in results]))
    for op in block.ops:
        for result in op.results:
            result.name_hint = None
    return Region(block)

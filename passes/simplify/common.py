"""Common subexpressions: the same operator on the same operands runs once."""

from dataclasses import dataclass

from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.traits import IsolatedFromAbove

from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.source import BindDimsOp, WeightOp
from tapeout.passes.manager import Pass

Key = tuple[object, ...]


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Merge operators that are equal in kind, operands, attributes and types.

    Saves the second of each pair: exporters build masks and positions once per layer. Weights
    of equal content are one too.
    """

    name = "common-subexpressions"

    def apply(self, module: Module) -> None:
        """Walk every block in order; inner blocks see what outer ones have."""
        _merge(module, module.ir.body.block, {})


def _merge(module: Module, block: Block, seen: dict[Key, Operation]) -> None:
    for op in list(block.ops):
        for region in op.regions:
            inner = {} if op.has_trait(IsolatedFromAbove) else dict(seen)
            for child in region.blocks:
                _merge(module, child, inner)
        if not isinstance(op, NNOp) or isinstance(op, BindDimsOp) or op.regions:
            continue
        first = seen.setdefault(_key(module, op), op)
        if first is not op:
            for old, new in zip(op.results, first.results, strict=True):
                old.replace_all_uses_with(new)
            block.erase_op(op)


def _key(module: Module, op: NNOp) -> Key:
    operands: tuple[SSAValue, ...] = tuple(op.operands)
    types: tuple[Attribute, ...] = tuple(r.type for r in op.results)
    if isinstance(op, WeightOp):
        return op.name, _content(module, op), types
    return op.name, operands, tuple(sorted(op.properties.items())), types


def _content(module: Module, op: WeightOp) -> object:
    """The symbol; small weights by content, since hashing large ones would read every page."""
    array = module.weights[op.symbol.data]
    return module.weights.digest(op.symbol.data) if array.nbytes <= 1 << 20 else op.symbol.data

"""What is left of quantised tensors becomes arithmetic on plain ones."""

from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.rewriter import InsertPoint

from tapeout.ir.module import Module
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.passes.manager import Pass


@dataclass(frozen=True)
class PlainNumbers(Pass):
    """Replace every ``nn.dequantize`` by the maps that it stands for; targets know only those."""

    name = "plain-numbers"

    def apply(self, module: Module) -> None:
        """Decompose all, those of constants too: folding comes next."""
        for op in list(module.ir.walk()):
            if isinstance(op, DequantizeOp):
                (value,) = op.decompose(Builder(InsertPoint.before(op)))
                op.y.replace_all_uses_with(value)
                op.detach()
                op.erase()

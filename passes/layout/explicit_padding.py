"""Padding of convolutions as an operator of its own, so that no tap needs a check."""

from __future__ import annotations

from dataclasses import dataclass

from tapeout.ir.expr import ZERO, as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.views import PadOp
from tapeout.ir.types import IntsAttr
from tapeout.passes.manager import Pass


@dataclass(frozen=True)
class ExplicitPadding(Pass):
    """``conv(x, pads) = conv(pad(x), no pads)`` with channels last, not for depthwise ones.

    The pad joins the kernel that makes ``x``, which stores into the middle of a larger buffer:
    no copy, and the taps of the convolution become unbroken runs of memory.
    """

    name = "explicit-padding"

    def apply(self, module: Module) -> None:
        """Rewrite every padded channels-last convolution."""
        for entry in module.entries():
            for op in list(entry.walk()):
                if isinstance(op, ConvOp) and op.channels_last.data and any(op.pads.data):
                    _pad(op)


def _pad(op: ConvOp) -> None:
    n = len(op.strides.data)
    low, high = op.pads.data[:n], op.pads.data[n:]
    pad = PadOp.make(
        op.x,
        None,
        low=(ZERO, *map(as_expr, low), ZERO),
        high=(ZERO, *map(as_expr, high), ZERO),
    )
    block = op.parent_block()
    assert block is not None, "the operator stands in a block"
    block.insert_op_before(pad, op)
    op.operands[0] = pad.y
    op.properties["pads"] = IntsAttr((0,) * (2 * n))

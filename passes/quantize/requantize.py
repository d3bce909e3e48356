"""From the sum of an integer product to the codes of the next one, in few steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i32, u8
from tapeout.ir.module import Module
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by, number, only_use, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

FAR = 12
"""Maps between a product and what its codes are made of, at most; longer chains stay."""


@dataclass(frozen=True)
class Requantize(Pass):
    """Multiply by reciprocals of scales, and leave clamping to the conversion that saturates.

    Saves a division and a maximum for each element of a quantised layer's result. A code may
    differ by one where the quotient lies within rounding of the middle between two codes; so this
    looks at results of integer products only, whose scales are roundings themselves, and leaves a
    QuantizeLinear of anything else exact.
    """

    name = "requantize"

    def apply(self, module: Module) -> None:
        """Rewrite every conversion to bytes that ends an integer product."""
        drive(module, [ReciprocalOfScale(), ReluBeforeClamp()])


class ReciprocalOfScale(Pattern[MapOp]):
    """``round(x / c) = round(x * (1 / c))`` for results of integer products."""

    root = MapOp
    fns = frozenset({"round"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        quotient = operands_of(op.xs[0], "div")
        if quotient is None or spec(op.y).dtype is not f32:
            return None
        scale = edit.array(quotient[1])
        if scale is None or not _reaches_product(quotient[0], FAR):
            return None
        with np.errstate(all="ignore"):
            inverse = (1 / scale.astype(np.float64)).astype(np.float32)
        if not np.isfinite(inverse).all():
            return None
        return edit.map("round", edit.map("mul", quotient[0], edit.constant(inverse)))


class ReluBeforeClamp(Pattern[ConvertOp]):
    """``saturate(round(relu(x) * c)) = saturate(round(x * c))`` to u8, for ``c > 0``."""

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        rounded = operands_of(op.x, "round")
        product = None if rounded is None else operands_of(rounded[0], "mul")
        if product is None or op.to.data is not u8 or not op.saturate.data:
            return None
        inner, scale = operands_of(product[0], "relu"), number(edit, product[1])
        if inner is None or scale is None or scale <= 0 or not only_use(op.x):
            return None
        again = edit.map("round", edit.map("mul", inner[0], product[1]))
        return edit.add(ConvertOp, again, to=u8, saturate=True)


def _reaches_product(value: SSAValue, steps: int) -> bool:
    """Whether maps lead from an integer product to ``value``."""
    owner = value.owner
    if isinstance(owner, MatmulOp | ConvOp):
        operand = owner.a if isinstance(owner, MatmulOp) else owner.x
        return spec(value).dtype is i32 and is_byte(spec(operand).dtype)
    if steps == 0:
        return False
    if isinstance(owner, MapOp):
        return any(_reaches_product(x, steps - 1) for x in owner.xs)
    wide = made_by(value, ConvertOp)
    return wide is not None and _reaches_product(wide.x, steps - 1)

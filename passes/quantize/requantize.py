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
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by, number, only_use, operands_of
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

FAR = 12
"""Maps between a product and what its codes are made of, at most; longer chains stay."""


@dataclass(frozen=True)
class Requantize(Pass):
    """From sums to codes in few steps: reciprocals of scales, no clamp twice, codes before a pool.

    Saves a division, a maximum and, in a residual sum, a multiplication for each element of a
    quantised layer's result; and a pool's largest numbers are looked for among bytes. A code may
    differ by one where the quotient lies within rounding of the middle between two codes; so this
    looks at results of integer products only, whose scales are roundings themselves, and leaves a
    QuantizeLinear of anything else exact.
    """

    name = "requantize"

    def apply(self, module: Module) -> None:
        """Rewrite every conversion to bytes that ends an integer product."""
        drive(module, [ReciprocalOfScale(), ReluBeforeClamp(), ScaleOfSum(), MaxOfCodes()])


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


class ScaleOfSum(Pattern[MapOp]):
    """``round((x + y) * c) = round(x * c + y * c)`` where both take ``c`` into scales they have."""

    root = MapOp
    fns = frozenset({"round"})

    def _rewrite(self, op: MapOp, edit: Edit) -> Replacement:
        product = operands_of(op.xs[0], "mul")
        total = None if product is None else operands_of(product[0], "add")
        if product is None or total is None or number(edit, product[1]) is None:
            return None
        alone = only_use(op.xs[0]) and only_use(product[0])
        if not alone or not all(_takes_scale(x, edit) for x in total):
            return None
        if not _reaches_product(product[0], FAR):
            return None
        scaled = [_with_scale(x, product[1], edit) for x in total]
        return edit.map("round", edit.map("add", *scaled))


class MaxOfCodes(Pattern[ConvertOp]):
    """``saturate(f(max_pool(x))) = max_pool(saturate(f(x)))`` to bytes, where ``f`` never falls."""

    root = ConvertOp

    def _rewrite(self, op: ConvertOp, edit: Edit) -> Replacement:
        if not is_byte(op.to.data) or not op.saturate.data:
            return None
        value, maps = op.x, list[MapOp]()
        while isinstance(value.owner, MapOp) and _never_falls(value.owner, edit):
            maps.append(value.owner)
            value = value.owner.xs[0]
        pool = made_by(value, PoolOp)
        if pool is None or pool.fn.data != "max" or not _reaches_product(pool.x, FAR):
            return None
        if not all(only_use(v) for v in (pool.y, *(m.y for m in maps))):
            return None
        made = pool.x
        for each in reversed(maps):
            made = edit.map(each.fn.data, made, *each.xs[1:])
        codes = edit.add(ConvertOp, made, to=op.to.data, saturate=True)
        return edit.add(PoolOp, codes, **pool.attrs())


def _never_falls(op: MapOp, edit: Edit) -> bool:
    """Whether a map of one tensor, and at most a number, keeps the order of what it maps."""
    by = number(edit, op.xs[1]) if len(op.xs) == 2 else None
    match op.fn.data:
        case "round" | "relu":
            return True
        case "mul" | "div":
            return by is not None and by > 0
        case "add" | "sub" | "min" | "max":
            return by is not None
        case _:
            return False


def _takes_scale(value: SSAValue, edit: Edit) -> bool:
    """Whether a scale on ``value`` joins a constant one, past a shift by a constant."""
    shifted = operands_of(value, "add")
    if shifted is not None and only_use(value) and edit.array(shifted[1]) is not None:
        value = shifted[0]
    scaled = operands_of(value, "mul")
    return scaled is not None and only_use(value) and edit.array(scaled[1]) is not None


def _with_scale(value: SSAValue, factor: SSAValue, edit: Edit) -> SSAValue:
    """``value`` times ``factor``, of which :func:`_takes_scale` holds."""

    def times(constant: SSAValue) -> SSAValue:
        a, b = edit.array(constant), edit.array(factor)
        assert a is not None, "it takes a scale"
        assert b is not None, "the factor is fixed"
        both = (a.astype(np.float64) * b).astype(np.float32)
        # An operand and no literal, so that equal layers stay one kernel.
        return edit.weight(both) if both.size == 1 else edit.constant(both)

    shifted = operands_of(value, "add")
    if shifted is not None:
        return edit.map("add", _with_scale(shifted[0], factor, edit), times(shifted[1]))
    scaled = operands_of(value, "mul")
    assert scaled is not None, "it takes a scale"
    return edit.map("mul", scaled[0], times(scaled[1]))


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

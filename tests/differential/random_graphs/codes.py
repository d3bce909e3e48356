"""Moves of quantised tensors: activations rounded to bytes, weights of few bits."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from random_graphs.draw import Draw
from tapeout.ir.dtypes import DType, bf16, f16, f32, i8, i32, u8
from tapeout.ir.expr import ZERO, as_expr
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.views import PadOp
from tapeout.ir.types import spec


def few_bits(d: Draw) -> SSAValue | None:
    """A product with codes of 1 to 8 bits, in groups of any length, of what is exact."""
    x = d.value(lambda s: s.dtype is f32 and s.rank >= 2 and s.dims[-1].constant is not None)
    if x is None or x not in d.exact:
        return None
    *rows, k = spec(x).dims
    group, bits, n = d.pick((4, 8, 12, 32)), int(d.random.integers(1, 9)), d.ragged()
    count = -(-int(k) // group)
    scaled = d.map("round", d.map("mul", x, d.like(16, x)))
    a = _filled(d, d.op(ConvertOp, scaled, to=i8, saturate=True), count * group - int(k))
    by_group = d.reshape(d.convert(a, i32), (*rows, count, group))
    sums = d.reshape(d.reduce("sum", by_group, (len(rows) + 1,)), (*rows, count))
    a_scale = d.map("mul", d.map("abs", d.convert(sums, f32)), d.constant(0.01, f32))
    codes = _fixed(d, d.random.integers(0, 1 << bits, (n, count * group)), u8)
    shared = d.chance(0.3)
    shape = (n, 1 if shared else count)
    scale = _fixed(d, d.random.standard_normal(shape) / 64, d.pick((f32, f16, bf16)))
    zero = _fixed(d, d.random.integers(0, 1 << bits, shape), u8) if d.chance(0.4) else None
    attrs = {"group": group, "bits": bits, "point": int(d.random.integers(-2, 1 << bits))}
    return d.op(GroupedMatmulOp, a, a_scale, sums, codes, scale, zero, **attrs)


def _filled(d: Draw, a: SSAValue, more: int) -> SSAValue:
    """Zeros behind every row."""
    if not more:
        return a
    none = (ZERO,) * (spec(a).rank - 1)
    return d.op(PadOp, a, None, low=(*none, ZERO), high=(*none, as_expr(more)), mode="constant")


def _fixed(d: Draw, values: np.ndarray, dtype: DType) -> SSAValue:
    array = values.astype(dtype.numpy)
    shape = tuple(map(as_expr, array.shape))
    return d.op(
        WeightOp, symbol=d.module.weights.add(array, "random"), shape=shape, dtype=dtype.name
    )


MOVES = (few_bits,)

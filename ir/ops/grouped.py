"""Products with weights of few bits, whose scales belong to groups along the summed axis."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from tapeout.ir.assumptions import may_equal
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import f32, i8, i32, u8
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.shapes import check_float, misfit
from tapeout.ir.types import IntAttr, Spec, TensorType, spec


@irdl_op_definition
class GroupedMatmulOp(NNOp):
    """A product of signed bytes with codes of few bits: exact sums of groups, scaled one by one.

    With ``w = codes * step - zero`` and groups ``g`` of ``group`` neighbours along ``k``::

        sum_g[m, n] = step * sum_{k in g} a[m, k] * codes[n, k] - zero[n, g] * sums[m, g]
        y[m, n]     = fma(f32(sum_g), a_scale[m, g] * scale[n, g], y[m, n])      for g = 0, 1, ...

    from ``y = 0``. The sums are i32 and exact, ``f32`` and the product of scales round once each,
    and so does every ``fma`` where the target has it (the reference rounds it twice).

    Shapes: ``a`` i8 ``[*, M, K]``; ``a_scale`` f32 ``[*, M, G]``, or ``[*, M, 1]`` for all groups;
    ``sums`` i32 ``[*, M, G]``, the sums of ``a``'s groups; ``codes`` u8 ``[N, K]``, below
    ``2**bits``; ``scale`` (f32, f16, bf16) and, where there is one, ``zero`` (u8) ``[N, G]`` or
    ``[N, 1]``. Without ``zero`` all zero points are ``point``. ``K = G * group``, and ``group`` is
    a multiple of 4. Cost: ``2*M*N*K``; a code is read as ``bits`` bits. Errors: E0202, E0206,
    E0209. Source: dequantise after the group, arXiv:2411.16158.
    """

    name = "nn.grouped_matmul"
    a = operand_def(TensorType)
    a_scale = operand_def(TensorType)
    sums = operand_def(TensorType)
    codes = operand_def(TensorType)
    scale = operand_def(TensorType)
    zero = opt_operand_def(TensorType)
    group = prop_def(IntAttr)
    bits = prop_def(IntAttr)
    step = prop_def(IntAttr, IntAttr(1))
    point = prop_def(IntAttr, IntAttr(0))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        a: Spec,
        a_scale: Spec,
        sums: Spec,
        codes: Spec,
        scale: Spec,
        zero: Spec | None,
        *,
        group: int,
        bits: int,
        step: int,
        point: int,
    ) -> Spec:
        """``[*, M, N]`` of f32."""
        check_float("grouped_matmul", scale)
        assert (a.dtype, codes.dtype, sums.dtype) == (i8, u8, i32), "bytes, codes and their sums"
        assert a.rank >= 2, "importers lift vectors to matrices"
        assert group > 0, "groups hold something"
        assert group % 4 == 0, "groups are made of quads"
        assert 1 <= bits <= 8, f"codes have 1 to 8 bits, not {bits}"
        assert (1 << bits) * step <= 256, "a code times its step is a byte"
        n, k = codes.dims
        count = k // group
        if not may_equal(a.dims[-1], k) or k % group != 0:
            raise CompileError(
                "E0206",
                "grouped_matmul: the inner sizes differ, or are no whole groups",
                [("a", a.dims[-1]), ("codes", k), ("group", group)],
            )
        for name, of, rows in (
            ("a_scale", a_scale, a.dims[:-1]),
            ("sums", sums, a.dims[:-1]),
            ("scale", scale, (n,)),
            ("zero", zero, (n,)),
        ):
            counts = (count,) if of is sums else (count, ONE)
            if of is not None and (of.dims[:-1] != rows or of.dims[-1] not in counts):
                raise misfit(
                    "grouped_matmul", ("a", a.dims), ("codes", codes.dims), (name, of.dims)
                )
        return Spec((*a.dims[:-1], n), f32)

    @staticmethod
    def reference(
        a: Array,
        a_scale: Array,
        sums: Array,
        codes: Array,
        scale: Array,
        zero: Array | None,
        *,
        group: int,
        bits: int,
        step: int,
        point: int,
    ) -> Array:
        """Group by group; products of bytes are exact in f64, which BLAS multiplies."""
        n, k = codes.shape
        y = np.zeros((*a.shape[:-1], n), np.float32)
        a_scales, scales = (_by_group(v.astype(np.float32), k // group) for v in (a_scale, scale))
        points = _by_group(np.full((n, 1), point) if zero is None else zero, k // group)
        for g in range(k // group):
            part = slice(g * group, (g + 1) * group)
            exact = a[..., part].astype(np.float64) @ codes[:, part].astype(np.float64).T
            total = exact * step - sums[..., g, None].astype(np.float64) * points[:, g]
            y = y + total.astype(np.float32) * (a_scales[..., g, None] * scales[:, g])
        return y

    @staticmethod
    def cost(a: Spec, a_scale: Spec, sums: Spec, codes: Spec, *rest: object, **attrs: int) -> Expr:
        """A multiply and an add for each of ``M*N*K``."""
        return a.size * codes.dims[0] * 2

    def bytes_read(self, operand: int) -> Expr:
        """Codes are packed."""
        whole = super().bytes_read(operand)
        return whole * self.bits.data // 8 if self.operands[operand] is self.codes else whole

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """A product of floats: ``dequantize(a) @ dequantize(codes)``."""
        emit = Emit(builder)
        left = dequantized(emit, self.a, self.a_scale, None, self.group.data)
        codes, zero = whole_codes(emit, self.codes, self.zero, self.step.data, self.point.data)
        right = dequantized(emit, codes, self.scale, zero, self.group.data)
        return [emit.matmul(left, right, transpose_b=True)]


def dequantized(
    emit: Emit, codes: SSAValue, scale: SSAValue, zero: SSAValue | None, group: int
) -> SSAValue:
    """The numbers of codes with scales of groups along the last axis, or one for all of it."""
    shared = all(p is None or spec(p).dims[-1] == 1 for p in (scale, zero))
    block = {} if shared else {"axis": spec(codes).rank - 1, "block": group}
    return emit.op(DequantizeOp, codes, scale, zero, to=f32, **block)


def whole_codes(
    emit: Emit, codes: SSAValue, zero: SSAValue | None, step: int, point: int
) -> tuple[SSAValue, SSAValue | None]:
    """``codes * step - zero`` as codes and a zero point in i32, the point in the former."""
    codes = emit.map("mul", emit.convert(codes, i32), emit.constant(step, i32))
    if zero is None:
        return emit.map("sub", codes, emit.constant(point, i32)), None
    return codes, emit.convert(zero, i32)


def _by_group(values: Array, count: int) -> Array:
    """``[..., G]`` from one for each group, or one for all."""
    return np.broadcast_to(values, (*values.shape[:-1], count))

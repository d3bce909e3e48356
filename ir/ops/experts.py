"""Products in which every row names its own matrix: layers with a mixture of experts."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from tapeout.ir.assumptions import may_equal
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, dtype_of
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr, minimum
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.ops.contract import product_type
from tapeout.ir.ops.grouped import GroupedMatmulOp, dequantized, whole_codes
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.shapes import (
    check_dims,
    check_filled,
    check_float,
    check_index,
    check_rank,
    shape_text,
)
from tapeout.ir.types import DTypeAttr, FlagAttr, IntAttr, Spec, TensorType, spec


@irdl_op_definition
class ExpertMatmulOp(NNOp):
    """``y[t, n] = sum_k a[t, k] * b[experts[t], k, n]``: each row times the matrix that it names.

    Shapes: ``a [T, K]``, ``b [E, K, N]`` or with ``transpose_b`` ``[E, N, K]``, ``experts [T]``,
    ``y [T, N]``. Floats; sums and ``to`` as in ``nn.matmul``. Indices as in ``nn.gather``: negative
    ones count from the end, compiled code clamps those outside.

    Cost: ``2*T*K*N``; a matrix is read once at most, and of ``E`` matrices no more than ``T``.
    Errors: E0202, E0203, E0206, E0209, E0210. Source: MegaBlocks, arXiv:2211.15841.
    """

    name = "nn.expert_matmul"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    experts = operand_def(TensorType)
    transpose_b = prop_def(FlagAttr, FlagAttr(False))
    to = opt_prop_def(DTypeAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(
        a: Spec, b: Spec, experts: Spec, *, transpose_b: bool, to: DType | None = None
    ) -> Spec:
        """``[T, N]``."""
        check_float("expert_matmul", a, b)
        check_index("expert_matmul", experts)
        dtype = product_type("expert_matmul", a, b, to)
        check_rank("expert_matmul", "a", a, 2)
        check_rank("expert_matmul", "b", b, 3)
        check_dims("expert_matmul", "experts", experts.dims, a.dims[:1])
        check_filled("expert_matmul", "b", b.dims[:1], experts.size)
        k, n = reversed(b.dims[1:]) if transpose_b else b.dims[1:]
        if not may_equal(a.dims[1], k):
            raise CompileError(
                "E0206",
                "expert_matmul: the inner sizes differ",
                [("a", shape_text(a.dims)), ("b", shape_text(b.dims))],
            )
        return Spec((a.dims[0], n), dtype)

    @staticmethod
    def reference(
        a: Array, b: Array, experts: Array, *, transpose_b: bool, to: DType | None = None
    ) -> Array:
        """One product for the rows of each expert, in the accumulation type."""
        rows, matrices = wide(a), b.swapaxes(1, 2) if transpose_b else b
        y = np.zeros((a.shape[0], matrices.shape[2]), rows.dtype)
        with np.errstate(all="ignore"):
            for expert in np.unique(experts):
                own = experts == expert
                y[own] = np.matmul(rows[own], wide(matrices[expert]))
        return y.astype((to or dtype_of(a)).numpy)

    @staticmethod
    def cost(a: Spec, b: Spec, experts: Spec, **attrs: object) -> Expr:
        """A multiply and an add for each of ``T*K*N``."""
        return ExpertMatmulOp.infer(a, b, experts, **attrs).size * a.dims[1] * 2  # type: ignore[arg-type]

    def bytes_read(self, operand: int) -> Expr:
        """No more matrices than there are rows."""
        whole = super().bytes_read(operand)
        if self.operands[operand] is not self.b:
            return whole
        return _at_most_once(whole, self.b, self.experts)


@irdl_op_definition
class ExpertGroupedMatmulOp(NNOp):
    """``nn.grouped_matmul`` in which every row has the codes of the expert that it names.

    Shapes: ``a [T, K]``, ``a_scale [T, G]`` or ``[T, 1]``, ``sums [T, G]``, ``experts [T]``;
    ``codes [E, N, K]``, ``scale`` and, where there is one, ``zero`` ``[E, N, G]`` or ``[E, N, 1]``;
    ``y [T, N]`` f32. Types and attributes as there, indices as in ``nn.expert_matmul``.

    Cost: ``2*T*K*N``; a code is read as ``bits`` bits, and those of an expert once at most.
    Errors: E0206, E0209, E0210.
    """

    name = "nn.expert_grouped_matmul"
    a = operand_def(TensorType)
    a_scale = operand_def(TensorType)
    sums = operand_def(TensorType)
    codes = operand_def(TensorType)
    scale = operand_def(TensorType)
    zero = opt_operand_def(TensorType)
    experts = operand_def(TensorType)
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
        experts: Spec,
        **attrs: int,
    ) -> Spec:
        """``[T, N]`` of f32."""
        op = "expert_grouped_matmul"
        check_index(op, experts)
        check_rank(op, "a", a, 2)
        check_rank(op, "codes", codes, 3)
        check_dims(op, "experts", experts.dims, a.dims[:1])
        check_filled(op, "codes", codes.dims[:1], experts.size)
        for name, value in (("scale", scale), ("zero", zero)):
            if value is not None:
                check_dims(op, name, value.dims[:1], codes.dims[:1])
        codes, scale = (v.with_dims(v.dims[1:]) for v in (codes, scale))
        zero = None if zero is None else zero.with_dims(zero.dims[1:])
        return GroupedMatmulOp.infer(a, a_scale, sums, codes, scale, zero, **attrs)

    @staticmethod
    def reference(
        a: Array,
        a_scale: Array,
        sums: Array,
        codes: Array,
        scale: Array,
        zero: Array | None,
        experts: Array,
        **attrs: int,
    ) -> Array:
        """One product for the rows of each expert."""
        y = np.zeros((a.shape[0], codes.shape[1]), np.float32)
        for expert in np.unique(experts):
            own = experts == expert
            left = (v[own] for v in (a, a_scale, sums))
            right = (None if v is None else v[expert] for v in (codes, scale, zero))
            y[own] = GroupedMatmulOp.reference(*left, *right, **attrs)  # type: ignore[arg-type]
        return y

    @staticmethod
    def cost(a: Spec, a_scale: Spec, sums: Spec, codes: Spec, *rest: object, **attrs: int) -> Expr:
        """A multiply and an add for each of ``T*K*N``."""
        return a.size * codes.dims[1] * 2

    def bytes_read(self, operand: int) -> Expr:
        """Codes are packed; no more of them, nor of their scales, than there are rows."""
        whole, value = super().bytes_read(operand), self.operands[operand]
        if value not in (self.codes, self.scale, self.zero):
            return whole
        least = _at_most_once(whole, value, self.experts)
        return least * self.bits.data // 8 if value is self.codes else least

    def decompose(self, builder: Builder) -> Sequence[SSAValue]:
        """A product of floats for each row, with codes gathered for it."""
        emit, group = Emit(builder), self.group.data
        own = [
            None if v is None else emit.op(GatherOp, v, self.experts)
            for v in (self.codes, self.scale, self.zero)
        ]
        assert own[0] is not None, "there are codes"
        assert own[1] is not None, "there are scales"
        left = dequantized(emit, self.a, self.a_scale, None, group)
        codes, zero = whole_codes(emit, own[0], own[2], self.step.data, self.point.data)
        right = dequantized(emit, codes, own[1], zero, group)
        rows, inner = spec(self.a).dims
        y = emit.matmul(emit.reshape(left, (rows, ONE, inner)), right, transpose_b=True)
        return [emit.reshape(y, spec(self.y).dims)]


def _at_most_once(whole: Expr, matrices: SSAValue, experts: SSAValue) -> Expr:
    """Bytes of the matrices that are read: of each expert, or of each row where these are fewer."""
    matrix = spec(matrices).with_dims(spec(matrices).dims[1:])
    return minimum(whole, matrix.bytes * spec(experts).dims[0])

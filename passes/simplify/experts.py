"""Mixtures of experts: a matrix gathered for each row, and a batch of products of one row."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, product
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.experts import ExpertMatmulOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.views import ReshapeOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by, swaps_last_two
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


@dataclass(frozen=True)
class RecomposeExperts(Pass):
    """Find products of rows with a matrix of their own; saves reading a matrix for every row."""

    name = "recompose-experts"

    def apply(self, module: Module) -> None:
        """Rewrite every batch of products with gathered weights."""
        drive(module, [RowsByMatrices(), MatricesByColumns()])


@dataclass(frozen=True)
class _Gathered:
    """``matrices[indices]``, the last two axes swapped if ``turned``."""

    matrices: SSAValue
    indices: SSAValue
    turned: bool


def _gathered(value: SSAValue) -> _Gathered | None:
    """What ``value`` gathers, where it is fixed matrices by the first of three axes."""
    turned = False
    while (swap := made_by(value, TransposeOp)) is not None and swaps_last_two(swap):
        value, turned = swap.x, not turned
    op = made_by(value, GatherOp)
    if op is None or op.axis.data % spec(op.x).rank != 0:
        return None
    source = op.x
    if (swap := made_by(source, TransposeOp)) is not None and swaps_last_two(swap):
        source, turned = swap.x, not turned
    if not isinstance(source.owner, WeightOp) or spec(source).rank != 3:
        return None
    return _Gathered(source, op.indices, turned) if spec(source).dtype.is_float else None


class RowsByMatrices(Pattern[MatmulOp]):
    """``x[*i, 1, K] @ w[e[*i]] = expert_matmul(x, w, e)``, its rows as one axis."""

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        found = _gathered(op.b)
        rows = spec(op.a).dims
        if found is None or rows[-2] != ONE or rows[:-2] != spec(found.indices).dims:
            return None
        return _by_experts(op, op.a, found, found.turned != op.transpose_b.data, edit)


class MatricesByColumns(Pattern[MatmulOp]):
    """``w[e[*i]] @ x[*i, K, 1] = expert_matmul(x, transpose(w), e)``, its columns as rows."""

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        found = _gathered(op.a)
        columns, across = spec(op.b).dims, -2 if op.transpose_b.data else -1
        if found is None or columns[across] != ONE or columns[:-2] != spec(found.indices).dims:
            return None
        return _by_experts(op, op.b, found, not found.turned, edit)


def _by_experts(op: MatmulOp, x: SSAValue, w: _Gathered, transpose_b: bool, edit: Edit) -> SSAValue:
    """The product of one row for each index, in the shape of ``op``."""
    count = product(spec(w.indices).dims)
    inner = spec(w.matrices).dims[2 if transpose_b else 1]
    rows = edit.add(ReshapeOp, x, shape=(count, inner))
    indices = edit.add(ReshapeOp, w.indices, shape=(count,))
    attrs = {"transpose_b": transpose_b} | ({} if op.to is None else {"to": op.to.data})
    y = edit.add(ExpertMatmulOp, rows, w.matrices, indices, **attrs)
    return edit.add(ReshapeOp, y, shape=spec(op.y).dims)

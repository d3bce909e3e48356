"""Linear layers without the reshapes that exporters put around them."""

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr
from tapeout.ir.expr import product as size_of
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.match import made_by, only_use
from tapeout.passes.rewrite import Edit, Pattern, Replacement


class ReshapeAroundMatmul(Pattern[ReshapeOp]):
    """``reshape(x @ w) = reshape(x) @ w`` when it regroups the rows of ``x`` and no columns.

    Only towards another reshape, with which it becomes one or none. What stays of the outer
    reshape splits the columns, or is nothing.
    """

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        product = made_by(op.x, MatmulOp)
        if product is None or not only_use(op.x) or spec(product.b).rank != 2:
            return None
        if spec(product.a).rank != 2 or not _comes_from_reshape(product.a):
            return None
        count, columns = spec(product.y).dims
        rows = _rows(op.shape.data, count)
        if rows is None or len(rows) < 2 or size_of(op.shape.data[len(rows) :]) != columns:
            return None
        near = edit.add(ReshapeOp, product.a, shape=(*rows, spec(product.a).dims[-1]))
        again = edit.add(MatmulOp, near, product.b, **product.attrs())
        return edit.add(ReshapeOp, again, shape=op.shape.data)


def _rows(shape: Sequence[Expr], count: Expr) -> Sequence[Expr] | None:
    """The leading sizes whose product is ``count``, as many as make it so."""
    fits = [n for n in range(len(shape)) if size_of(shape[:n]) == count]
    return shape[: fits[-1]] if fits else None


class ReshapeOfBiased(Pattern[ReshapeOp]):
    """``reshape(f(y, c)) = f(reshape(y), c)`` when the last axis stays and ``c`` lies along it.

    Only towards another reshape, through the bias and the activation of a linear layer.
    """

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        inner = made_by(op.x, MapOp)
        if inner is None or not only_use(op.x) or not op.shape.data or not spec(op.x).rank:
            return None
        if op.shape.data[-1] != spec(op.x).dims[-1]:
            return None
        moving = [x for x in inner.xs if edit.array(x) is None]
        fixed = [x for x in inner.xs if edit.array(x) is not None]
        if len(moving) != 1 or spec(moving[0]).dims != spec(op.x).dims:
            return None
        if any(spec(c).rank > 1 for c in fixed) or not _comes_from_reshape(moving[0]):
            return None
        moved = edit.add(ReshapeOp, moving[0], shape=op.shape.data)
        return edit.map(inner.fn.data, *(moved if x is moving[0] else x for x in inner.xs))


def _comes_from_reshape(value: SSAValue) -> bool:
    """Whether a reshape is met going up through maps and products by matrices."""
    while not isinstance(value.owner, ReshapeOp):
        owner = value.owner
        if not isinstance(owner, MapOp | MatmulOp) or not only_use(value):
            return False
        if isinstance(owner, MatmulOp) and spec(owner.b).rank != 2:
            return False
        value = owner.operands[0]
    return True


PATTERNS = (ReshapeAroundMatmul(), ReshapeOfBiased())

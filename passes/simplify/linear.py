"""Linear layers without the reshapes that exporters put around them."""

from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.match import made_by, only_use
from tapeout.passes.rewrite import Edit, Pattern, Replacement


class ReshapeAroundMatmul(Pattern[ReshapeOp]):
    """``reshape(reshape(x) @ w) = reshape(x @ w)`` when both only regroup the rows.

    ``x`` is ``[*rows, K]``, the inner shape ``[M, K]``, the outer one ``[*rows, ...]``. What
    stays of the outer reshape splits the columns, or nothing and is dropped.
    """

    root = ReshapeOp

    def _rewrite(self, op: ReshapeOp, edit: Edit) -> Replacement:
        product = made_by(op.x, MatmulOp)
        flat = made_by(product.a, ReshapeOp) if product is not None else None
        if product is None or flat is None or not only_use(op.x) or spec(product.b).rank != 2:
            return None
        have, rows = spec(flat.x).dims, spec(flat.x).dims[:-1]
        if not rows or spec(flat.y).dims[-1] != have[-1] or op.shape.data[: len(rows)] != rows:
            return None
        again = edit.add(MatmulOp, flat.x, product.b, transpose_b=product.transpose_b.data)
        return edit.add(ReshapeOp, again, shape=op.shape.data)


class ReshapeOfBiased(Pattern[ReshapeOp]):
    """``reshape(f(y, c)) = f(reshape(y), c)`` when the last axis stays and ``c`` lies along it.

    Moves the reshape towards a product that can take it.
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
        if any(spec(c).rank > 1 for c in fixed) or not _reaches_matmul(moving[0].owner):
            return None
        moved = edit.add(ReshapeOp, moving[0], shape=op.shape.data)
        return edit.map(inner.fn.data, *(moved if x is moving[0] else x for x in inner.xs))


def _reaches_matmul(owner: object) -> bool:
    """Whether a chain of maps with one wide operand ends in a product of reshaped rows."""
    while isinstance(owner, MapOp):
        owner = owner.xs[0].owner
    return isinstance(owner, MatmulOp) and made_by(owner.a, ReshapeOp) is not None


PATTERNS = (ReshapeAroundMatmul(), ReshapeOfBiased())

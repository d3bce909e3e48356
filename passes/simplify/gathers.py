"""Gathers whose indices turn out to be plain ranges: slices and reshapes in disguise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.expr import ONE, ZERO, Expr, is_at_least
from tapeout.ir.ops.index import GatherNdOp, GatherOp
from tapeout.ir.ops.source import IotaOp
from tapeout.ir.ops.views import ConcatOp, ExpandOp, ReshapeOp, SliceOp
from tapeout.ir.types import spec
from tapeout.passes.match import made_by, without_ones
from tapeout.passes.rewrite import Edit, Pattern, Replacement

Array = np.ndarray[Any, Any]


class GatherOfRange(Pattern[GatherOp]):
    """``gather(x, [0, 1, .., n-1]) = x[:n]``: position tables are read so."""

    root = GatherOp

    def _rewrite(self, op: GatherOp, edit: Edit) -> Replacement:
        size = counted(op.indices, edit)
        if size is None:
            return None
        axis: int = op.axis.data % spec(op.x).rank
        dims = spec(op.x).dims
        # A slice must stay inside; a gather would have told of an index that does not.
        if not is_at_least(dims[axis], size):
            return None
        part = edit.add(
            SliceOp,
            op.x,
            starts=(ZERO,) * len(dims),
            sizes=(*dims[:axis], size, *dims[axis + 1 :]),
            steps=(1,) * len(dims),
        )
        return edit.add(ReshapeOp, part, shape=spec(op.y).dims)


def counted(value: SSAValue, edit: Edit) -> Expr | None:
    """``n`` when the elements in row-major order are ``0 .. n-1`` and ``n`` is one axis's size."""
    while (view := made_by(value, ReshapeOp)) is not None:
        value = view.x
    wide = without_ones(spec(value).dims)
    if len(wide) > 1:
        return None
    iota = made_by(value, IotaOp)
    if iota is not None:
        return wide[0] if wide and spec(value).dims[iota.axis.data] == wide[0] else None
    part = made_by(value, SliceOp)
    source = value if part is None else part.x
    if part is not None and any(s != 0 for s in part.starts.data):
        return None
    if part is not None and any(s != 1 for s in part.steps.data):
        return None
    array = edit.array(source)
    if array is None or array.size > 1 << 20 or array.size != max(array.shape, default=1):
        return None
    if not np.array_equal(array.reshape(-1), np.arange(array.size)):
        return None
    return wide[0] if wide else ONE


class GatherOfGrid(Pattern[GatherNdOp]):
    """``gather_nd(x, grid) = reshape(x)`` when the grid names every place of ``x`` in order."""

    root = GatherNdOp

    def _rewrite(self, op: GatherNdOp, edit: Edit) -> Replacement:
        depth = int(spec(op.indices).dims[-1])
        places, named = spec(op.indices).dims[:-1], spec(op.x).dims[:depth]
        if op.batch_dims.data or without_ones(places) != without_ones(named):
            return None
        array = edit.array(op.indices)
        if array is not None:
            fits = _is_grid(array, named)
        else:
            fits = _is_grid_of_iotas(op.indices, named, edit)
        return edit.add(ReshapeOp, op.x, shape=spec(op.y).dims) if fits else None


def _is_grid(indices: Array, named: Sequence[Expr]) -> bool:
    shape = [d.constant for d in named]
    sizes = [s for s in shape if s is not None]
    if len(sizes) != len(shape) or indices.size > 1 << 22:
        return False
    grid = np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), -1)
    return np.array_equal(indices.reshape(-1, len(sizes)), grid)


def _is_grid_of_iotas(indices: SSAValue, named: Sequence[Expr], edit: Edit) -> bool:
    """Whether the columns are joined from one running index per axis of ``x``."""
    joined = made_by(indices, ConcatOp)
    rank = spec(indices).rank
    if joined is None or joined.axis.data % rank != rank - 1 or len(joined.xs) != len(named):
        return False
    free = 0
    for column, size in zip(joined.xs, named, strict=True):
        axis = _runs_along(column, edit)
        if size == ONE and axis is None:
            continue
        if axis is None or axis < free or spec(indices).dims[axis] != size:
            return False
        free = axis + 1
    return True


def _runs_along(value: SSAValue, edit: Edit) -> int | None:
    """The axis along which ``value`` is 0, 1, 2, ... while it repeats along all others."""
    views: list[ReshapeOp | ExpandOp] = []
    while isinstance(value.owner, ReshapeOp | ExpandOp):
        views.append(value.owner)
        value = value.owner.x
    if counted(value, edit) is None:
        return None
    wide = [i for i, d in enumerate(spec(value).dims) if d != ONE]
    axis = wide[0] if len(wide) == 1 else None
    for view in reversed(views):
        if axis is None:
            return None
        have, want = spec(view.x).dims, spec(view.y).dims
        if isinstance(view, ExpandOp):
            axis += len(want) - len(have)
        elif without_ones(have) == without_ones(want):
            before = len(without_ones(have[:axis]))
            axis = [i for i, d in enumerate(want) if d != ONE][before]
        else:
            return None
    return axis


PATTERNS = (GatherOfRange(), GatherOfGrid())

"""Operators that order or select elements; the size of most results is decided by the data.

``count`` of such an operator is one bare symbol, the size of its result. It gets its value when
the operator runs, and types after it may use it.
"""

from typing import ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def

from tapeout.ir.dtypes import f32, i64
from tapeout.ir.expr import Expr, as_expr, as_symbol
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import check_axis, check_dims, check_inside, check_kind, check_rank, replaced
from tapeout.ir.types import ExprsAttr, FlagAttr, IntAttr, Spec, TensorType


@irdl_op_definition
class TopKOp(NNOp):
    """The ``k`` largest (or smallest) along ``axis`` in order, with their i64 indices.

    ``k`` is one expression. Of equal values the one with the lower index comes first; NaN
    counts as the largest. Errors: E0202, E0209, E0210.
    """

    name = "nn.top_k"
    x = operand_def(TensorType)
    k = prop_def(ExprsAttr)
    axis = prop_def(IntAttr, IntAttr(-1))
    largest = prop_def(FlagAttr, FlagAttr(True))
    y = result_def(TensorType)
    indices = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, k: tuple[Expr, ...], axis: int, largest: bool) -> tuple[Spec, Spec]:
        """Size ``k`` along the axis, twice."""
        check_kind("top_k", ("float", "int", "uint"), x)
        place = check_axis(axis, x.rank, "top_k")
        check_inside("top_k", "k", k, x.dims[place : place + 1])
        y = x.with_dims(replaced(x.dims, place, k[0]))
        return y, y.with_dtype(i64)

    @staticmethod
    def reference(x: Array, *, k: tuple[int, ...], axis: int, largest: bool) -> tuple[Array, Array]:
        """Sort stably, from the back for the largest, so that lower indices come first."""
        line = np.moveaxis(wide(x), axis, -1)
        order = np.argsort(np.flip(line, -1) if largest else line, axis=-1, kind="stable")
        if largest:
            order = line.shape[-1] - 1 - np.flip(order, -1)
        indices = np.moveaxis(order[..., : k[0]], -1, axis)
        return np.take_along_axis(x, indices, axis), indices

    @staticmethod
    def cost(x: Spec, **_: object) -> Expr:
        """One comparison per element."""
        return x.size


@irdl_op_definition
class NonZeroOp(NNOp):
    """The places of the elements that are not zero, in row-major order, one column each."""

    name = "nn.non_zero"
    x = operand_def(TensorType)
    count = prop_def(ExprsAttr)
    y = result_def(TensorType)
    DECIDES: ClassVar[tuple[str, ...]] = ("count",)

    @staticmethod
    def infer(x: Spec, *, count: tuple[Expr, ...]) -> Spec:
        """``i64[rank, count]``."""
        return Spec((as_expr(x.rank), _bare(count)), i64)

    @staticmethod
    def reference(x: Array, *, count: None) -> Array:
        """Numpy's places, turned to a row per axis."""
        return np.argwhere(x).T.astype(np.int64)


@irdl_op_definition
class UniqueOp(NNOp):
    """The distinct slices of ``x`` along ``axis``, or its distinct elements when absent.

    Results: ``y`` (``count`` along the axis, or ``[count]``), then i64 ``first`` (where each
    first occurs) ``[count]``, ``inverse`` (which of ``y`` each slice of ``x`` is) and
    ``counts [count]``. Ascending with ``sorted``, else in order of first occurrence.
    Errors: E0202.
    """

    name = "nn.unique"
    x = operand_def(TensorType)
    axis = opt_prop_def(IntAttr)
    sorted = prop_def(FlagAttr, FlagAttr(True))
    count = prop_def(ExprsAttr)
    y = result_def(TensorType)
    first = result_def(TensorType)
    inverse = result_def(TensorType)
    counts = result_def(TensorType)
    DECIDES: ClassVar[tuple[str, ...]] = ("count",)

    @staticmethod
    def infer(
        x: Spec, *, axis: int | None, sorted: bool, count: tuple[Expr, ...]
    ) -> tuple[Spec, Spec, Spec, Spec]:
        """``y``, ``first``, ``inverse``, ``counts``."""
        size = _bare(count)
        number = Spec((size,), i64)
        if axis is None:
            return x.with_dims((size,)), number, Spec((x.size,), i64), number
        place = check_axis(axis, x.rank, "unique")
        y = x.with_dims(replaced(x.dims, place, size))
        return y, number, Spec((x.dims[place],), i64), number

    @staticmethod
    def reference(
        x: Array, *, axis: int | None, sorted: bool, count: None
    ) -> tuple[Array, Array, Array, Array]:
        """Numpy's unique, put back in order of first occurrence unless ``sorted``."""
        y, first, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        inverse = inverse.reshape(-1)
        if sorted:
            return y, first, inverse, counts
        order = np.argsort(first)
        place = np.argsort(order)
        return np.take(y, order, axis or 0), first[order], place[inverse], counts[order]


@irdl_op_definition
class NmsOp(NNOp):
    """Non-maximum suppression: greedy choice of boxes that overlap little, per batch and class.

    ``boxes [B, N, 4]`` are ``y1, x1, y2, x2`` (any two opposite corners), or with
    ``center_point_box`` ``x, y, width, height``; ``scores [B, C, N]``. Rank-0 operands:
    ``max_per_class`` (i64; 0 chooses none), ``iou`` and ``score`` (f32): a box is chosen if its
    score is above ``score`` and no chosen one overlaps it by more than ``iou``. Result rows are
    batch, class and box, by falling score within a class. Errors: E0209, E0210.
    """

    name = "nn.nms"
    boxes = operand_def(TensorType)
    scores = operand_def(TensorType)
    max_per_class = operand_def(TensorType)
    iou = operand_def(TensorType)
    score = operand_def(TensorType)
    center_point_box = prop_def(FlagAttr, FlagAttr(False))
    count = prop_def(ExprsAttr)
    y = result_def(TensorType)
    DECIDES: ClassVar[tuple[str, ...]] = ("count",)

    @staticmethod
    def infer(
        boxes: Spec,
        scores: Spec,
        max_per_class: Spec,
        iou: Spec,
        score: Spec,
        *,
        center_point_box: bool,
        count: tuple[Expr, ...],
    ) -> Spec:
        """``i64[count, 3]``."""
        check_rank("nms", "boxes", boxes, 3)
        check_rank("nms", "scores", scores, 3)
        check_dims("nms", "boxes", boxes.dims, (scores.dims[0], scores.dims[2], as_expr(4)))
        for name, value in (("max_per_class", max_per_class), ("iou", iou), ("score", score)):
            check_rank("nms", name, value, 0)
        assert max_per_class.dtype is i64, "max_per_class is i64"
        assert iou.dtype is score.dtype is f32, "the thresholds of nms are f32"
        return Spec((_bare(count), as_expr(3)), i64)

    @staticmethod
    def reference(
        boxes: Array,
        scores: Array,
        max_per_class: Array,
        iou: Array,
        score: Array,
        *,
        center_point_box: bool,
        count: None,
    ) -> Array:
        """Greedy choice per batch and class."""
        rows = [
            (batch, kind, box)
            for batch, kind in np.ndindex(*scores.shape[:2])
            for box in _chosen(
                _corners(wide(boxes[batch]), center_point_box),
                wide(scores[batch, kind]),
                int(max_per_class),
                float(iou),
                float(score),
            )
        ]
        return np.array(rows, np.int64).reshape(len(rows), 3)

    @staticmethod
    def cost(boxes: Spec, scores: Spec, *_: Spec, **attrs: object) -> Expr:
        """About 16 flops for each pair of boxes of a class, at worst."""
        return scores.size * scores.dims[2] * 16


def _corners(boxes: Array, center_point_box: bool) -> Array:
    """Boxes ``[N, 4]`` as low y, low x, high y, high x."""
    if center_point_box:
        x, y, width, height = boxes.T
        return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=1)
    return np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
    )


def _chosen(boxes: Array, scores: Array, most: int, iou: float, score: float) -> list[int]:
    kept: list[int] = []
    for box in np.argsort(-scores, kind="stable"):
        if len(kept) >= most or not scores[box] > score:
            break
        if all(_overlap(boxes[box], boxes[other]) <= iou for other in kept):
            kept.append(int(box))
    return kept


def _overlap(a: Array, b: Array) -> float:
    """Area of the intersection over area of the union; 0 where there is no area."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if min(sides) <= 0:
        return 0.0
    shared = float(np.prod(sides))
    union = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared
    return shared / union if union > 0 else 0.0


def _bare(count: tuple[Expr, ...]) -> Expr:
    assert len(count) == 1, "count is one expression"
    assert as_symbol(count[0]) is not None, f"count {count[0]} is not a bare symbol"
    return count[0]

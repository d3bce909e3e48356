"""Operators that read or write at places that a tensor of indices names.

A negative index counts from the end of its axis. An index outside the axis is the caller's
fault at run time: the reference raises IndexError, compiled code clamps it to the nearest valid
place, and so stays inside the buffer.
"""

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, minimum
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.scalars import COMBINERS
from tapeout.ir.shapes import (
    check_axis,
    check_dims,
    check_filled,
    check_index,
    check_inside,
    check_rank,
    check_same_dtype,
    misfit,
    replaced,
    shape_text,
)
from tapeout.ir.types import IntAttr, Spec, StrAttr, TensorType, spec

SCATTERS = ("none", "sum", "prod", "max", "min")


@irdl_op_definition
class GatherOp(NNOp):
    """``y[*a, *i, *b] = x[*a, indices[*i], *b]``, where ``*a`` are the axes before ``axis``.

    Errors: E0202, E0209, E0210. Out-of-range indices: see the module.
    """

    name = "nn.gather"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(0))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, indices: Spec, *, axis: int) -> Spec:
        """The axis is replaced by the axes of ``indices``."""
        check_index("gather", indices)
        place = check_axis(axis, x.rank, "gather")
        check_filled("gather", "x", x.dims[place : place + 1], indices.size)
        return x.with_dims(replaced(x.dims, place, *indices.dims))

    @staticmethod
    def reference(x: Array, indices: Array, *, axis: int) -> Array:
        """Take along the axis."""
        return np.take(x, indices, axis)

    def bytes_read(self, operand: int) -> Expr:
        """Of the table those elements that are picked."""
        whole = super().bytes_read(operand)
        return whole if operand else minimum(whole, spec(self.y).bytes)


@irdl_op_definition
class GatherElementsOp(NNOp):
    """``y[..., i, ...] = x[..., indices[..., i, ...], ...]``: one index per result element.

    ``indices`` has the rank of ``x`` and is nowhere larger but along ``axis``.
    Errors: E0202, E0209, E0210. Out-of-range indices: see the module.
    """

    name = "nn.gather_elements"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(0))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, indices: Spec, *, axis: int) -> Spec:
        """The shape of ``indices``."""
        check_index("gather_elements", indices)
        place = check_axis(axis, x.rank, "gather_elements")
        check_rank("gather_elements", "indices", indices, x.rank)
        _check_own_places("gather_elements", x, indices, place)
        return x.with_dims(indices.dims)

    @staticmethod
    def reference(x: Array, indices: Array, *, axis: int) -> Array:
        """Index with each element's own place, but for the one axis."""
        return x[_element_places(indices, axis)]


@irdl_op_definition
class GatherNdOp(NNOp):
    """``y[*b, *i, :] = x[*b, *indices[*b, *i], :]``: the last axis of ``indices`` is a place.

    ``*b`` are ``batch_dims`` leading axes that both share. Errors: E0209, E0210, E0211.
    Out-of-range indices: see the module.
    """

    name = "nn.gather_nd"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    batch_dims = prop_def(IntAttr, IntAttr(0))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, indices: Spec, *, batch_dims: int) -> Spec:
        """``indices.dims[:-1]``, then the axes of ``x`` that no index names."""
        check_index("gather_nd", indices)
        depth = _place_depth("gather_nd", x, indices, batch_dims)
        check_dims("gather_nd", "indices", indices.dims[:batch_dims], x.dims[:batch_dims])
        check_filled("gather_nd", "x", x.dims[batch_dims : batch_dims + depth], indices.size)
        return x.with_dims((*indices.dims[:-1], *x.dims[batch_dims + depth :]))

    @staticmethod
    def reference(x: Array, indices: Array, *, batch_dims: int) -> Array:
        """Index with the batch places and the parts of each named place."""
        batch = _own_places(indices.shape[:-1])[:batch_dims]
        return x[(*batch, *np.moveaxis(indices, -1, 0))]


@irdl_op_definition
class ScatterElementsOp(NNOp):
    """``x`` with ``updates`` at ``[..., indices[..., i, ...], ...]`` along ``axis``.

    ``fn``: ``none`` replaces (the last of equal indices wins), ``sum``, ``prod``, ``max`` and
    ``min`` combine with what is there. Errors: E0202, E0203, E0209, E0210.
    Out-of-range indices: see the module.
    """

    name = "nn.scatter_elements"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    updates = operand_def(TensorType)
    axis = prop_def(IntAttr, IntAttr(0))
    fn = prop_def(StrAttr, StrAttr("none"))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, indices: Spec, updates: Spec, *, axis: int, fn: str) -> Spec:
        """As ``x``."""
        assert fn in SCATTERS, f"no scatter {fn!r}"
        check_index("scatter_elements", indices)
        check_same_dtype("scatter_elements", x, updates)
        place = check_axis(axis, x.rank, "scatter_elements")
        check_rank("scatter_elements", "indices", indices, x.rank)
        _check_own_places("scatter_elements", x, indices, place)
        check_dims("scatter_elements", "updates", updates.dims, indices.dims)
        return x

    @staticmethod
    def reference(x: Array, indices: Array, updates: Array, *, axis: int, fn: str) -> Array:
        """Combine one update after the other."""
        return _scattered(x, _element_places(indices, axis), updates, fn)


@irdl_op_definition
class ScatterNdOp(NNOp):
    """``x`` with ``updates[*i, :]`` at ``[*indices[*i], :]``; the last axis is a place.

    ``fn`` as for ``nn.scatter_elements``. Errors: E0203, E0209, E0210, E0211.
    Out-of-range indices: see the module.
    """

    name = "nn.scatter_nd"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    updates = operand_def(TensorType)
    fn = prop_def(StrAttr, StrAttr("none"))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, indices: Spec, updates: Spec, *, fn: str) -> Spec:
        """As ``x``."""
        assert fn in SCATTERS, f"no scatter {fn!r}"
        check_index("scatter_nd", indices)
        check_same_dtype("scatter_nd", x, updates)
        depth = _place_depth("scatter_nd", x, indices, 0)
        want = (*indices.dims[:-1], *x.dims[depth:])
        check_dims("scatter_nd", "updates", updates.dims, want)
        check_filled("scatter_nd", "x", x.dims[:depth], indices.size)
        return x

    @staticmethod
    def reference(x: Array, indices: Array, updates: Array, *, fn: str) -> Array:
        """Combine one slice after the other."""
        return _scattered(x, tuple(np.moveaxis(indices, -1, 0)), updates, fn)


def _check_own_places(op: str, x: Spec, indices: Spec, axis: int) -> None:
    """Along every axis but one, an index's own place is a place of ``x``."""
    check_inside(op, "indices", replaced(indices.dims, axis), replaced(x.dims, axis))
    check_filled(op, "x", x.dims[axis : axis + 1], indices.size)


def _element_places(indices: Array, axis: int) -> tuple[Array, ...]:
    places = _own_places(indices.shape)
    places[axis] = indices
    return tuple(places)


def _own_places(shape: tuple[int, ...]) -> list[Array]:
    """The index of each element along each axis, to be broadcast."""
    return list(np.ogrid[tuple(slice(n) for n in shape)])


def _scattered(x: Array, places: tuple[Array, ...], updates: Array, fn: str) -> Array:
    y = wide(x).copy()
    values = updates.astype(y.dtype)
    if fn == "none":
        y[places] = values
    else:
        COMBINERS[fn].at(y, places, values)  # type: ignore[attr-defined]
    return y.astype(x.dtype)


def _place_depth(op: str, x: Spec, indices: Spec, batch_dims: int) -> int:
    """How many axes of ``x`` one place names."""
    if indices.rank <= batch_dims:
        raise misfit(op, ("x", x.dims), ("indices", indices.dims))
    depth = indices.dims[-1].constant
    if depth is None:
        raise CompileError(
            "E0211",
            f"{op}: the last size of the indices must be a number",
            [("indices", shape_text(indices.dims))],
            "fix that size when exporting the model",
        )
    if batch_dims + depth > x.rank:
        raise misfit(op, ("x", x.dims), ("indices", indices.dims))
    return depth

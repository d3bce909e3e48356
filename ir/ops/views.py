"""Operators that only move data: each element of the result is one element of an operand."""

import numpy as np
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
    var_operand_def,
)

from tapeout.ir.assumptions import may_be_at_least, may_equal
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ZERO, Expr, minimum
from tapeout.ir.op import Array, NNOp
from tapeout.ir.proofs import proves_at_least
from tapeout.ir.shapes import (
    broadcasts_to,
    check_axis,
    check_filled,
    check_same_dtype,
    misfit,
    shape_text,
)
from tapeout.ir.types import ExprsAttr, IntAttr, IntsAttr, Spec, StrAttr, TensorType


@irdl_op_definition
class ReshapeOp(NNOp):
    """The same elements in row-major order under another shape, given in full.

    Errors: E0204 when the element counts can never agree.
    """

    name = "nn.reshape"
    x = operand_def(TensorType)
    shape = prop_def(ExprsAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, shape: tuple[Expr, ...]) -> Spec:
        """The given shape."""
        result = x.with_dims(shape)
        if not may_equal(x.size, result.size):
            raise CompileError(
                "E0204",
                "reshape changes the number of elements",
                [("from", shape_text(x.dims)), ("to", shape_text(result.dims))],
                "make the products of the sizes equal",
            )
        return result

    @staticmethod
    def reference(x: Array, *, shape: tuple[int, ...]) -> Array:
        """Reshape."""
        return x.reshape(shape)


@irdl_op_definition
class TransposeOp(NNOp):
    """``y.dims[i] = x.dims[perm[i]]``."""

    name = "nn.transpose"
    x = operand_def(TensorType)
    perm = prop_def(IntsAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, perm: tuple[int, ...]) -> Spec:
        """Permuted dimensions; E0202 when ``perm`` is no permutation."""
        if sorted(perm) != list(range(x.rank)):
            raise CompileError(
                "E0202", f"{list(perm)} does not permute the axes of a rank {x.rank} tensor"
            )
        return x.with_dims(x.dims[p] for p in perm)

    @staticmethod
    def reference(x: Array, *, perm: tuple[int, ...]) -> Array:
        """Transpose."""
        return np.transpose(x, perm)


@irdl_op_definition
class ExpandOp(NNOp):
    """Broadcast ``x`` to ``shape``, which is given in full. Errors: E0201."""

    name = "nn.expand"
    x = operand_def(TensorType)
    shape = prop_def(ExprsAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, *, shape: tuple[Expr, ...]) -> Spec:
        """The given shape."""
        if not broadcasts_to(x.dims, shape):
            raise CompileError(
                "E0201",
                "a tensor cannot be repeated to this shape",
                [("from", shape_text(x.dims)), ("to", shape_text(shape))],
                "sizes other than 1 stay as they are",
            )
        return x.with_dims(shape)

    @staticmethod
    def reference(x: Array, *, shape: tuple[int, ...]) -> Array:
        """Broadcast."""
        return np.broadcast_to(x, shape)


@irdl_op_definition
class SliceOp(NNOp):
    """``y[i] = x[starts + i * steps]`` for ``i < sizes``, one entry per axis.

    Bounds are in range already (importers clamp them), but for an empty slice, which may begin
    anywhere; a step may be negative, not zero.
    Errors: E0209 when an element outside is surely read.
    """

    name = "nn.slice"
    x = operand_def(TensorType)
    starts = prop_def(ExprsAttr)
    sizes = prop_def(ExprsAttr)
    steps = prop_def(IntsAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec, *, starts: tuple[Expr, ...], sizes: tuple[Expr, ...], steps: tuple[int, ...]
    ) -> Spec:
        """``sizes``."""
        assert len(starts) == len(sizes) == len(steps) == x.rank, "one slice bound per axis"
        assert all(steps), "a slice step is never zero"
        if not all(map(_stays_inside, x.dims, starts, sizes, steps)):
            raise misfit("slice", ("x", x.dims), ("starts", starts), ("sizes", sizes))
        return x.with_dims(sizes)

    @staticmethod
    def reference(
        x: Array, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
    ) -> Array:
        """Index each axis by its arithmetic progression."""
        picks = [s + np.arange(n) * d for s, n, d in zip(starts, sizes, steps, strict=True)]
        return x[np.ix_(*picks)] if picks else x


def _stays_inside(dim: Expr, start: Expr, size: Expr, step: int) -> bool:
    """Whether first and last element lie inside; an empty slice may begin anywhere."""
    first, last = start, start + (size - 1) * step
    low, high = (first, last) if step > 0 else (last, first)
    if proves_at_least(low, 0) and proves_at_least(dim, high + 1):
        return True
    # The same times ``filled``: 0 on both sides for an empty slice. ``filled * size`` is the size.
    filled = minimum(size, 1)
    first, last = start * filled, start * filled + (size - filled) * step
    low, high = (first, last) if step > 0 else (last, first)
    return may_be_at_least(low, 0) and may_be_at_least(dim, high + filled)


@irdl_op_definition
class PadOp(NNOp):
    """``x`` with ``low`` and ``high`` elements added per axis, both >= 0.

    ``mode``: ``constant`` (the rank-0 operand ``value``, zero when absent), ``edge``,
    ``reflect`` (without the edge) or ``wrap``. Errors: E0209.
    """

    name = "nn.pad"
    x = operand_def(TensorType)
    value = opt_operand_def(TensorType)
    low = prop_def(ExprsAttr)
    high = prop_def(ExprsAttr)
    mode = prop_def(StrAttr, StrAttr("constant"))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec, value: Spec | None, *, low: tuple[Expr, ...], high: tuple[Expr, ...], mode: str
    ) -> Spec:
        """Each axis grows by ``low + high``."""
        assert mode in ("constant", "edge", "reflect", "wrap"), f"no pad mode {mode!r}"
        for dim, a, b in zip(x.dims, low, high, strict=True):
            if not (may_be_at_least(a, 0) and may_be_at_least(b, 0)):
                raise misfit("pad", ("low", low), ("high", high), fix="pads are not negative")
            if mode != "constant":
                check_filled("pad", "x", (dim,), a + b)
        return x.with_dims(d + a + b for d, a, b in zip(x.dims, low, high, strict=True))

    @staticmethod
    def reference(
        x: Array, value: Array | None, *, low: tuple[int, ...], high: tuple[int, ...], mode: str
    ) -> Array:
        """Pad."""
        widths = list(zip(low, high, strict=True))
        if mode != "constant":
            return np.pad(x, widths, mode=mode)  # type: ignore[call-overload]
        shape = [n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)]
        y = np.full(shape, np.zeros((), x.dtype) if value is None else value, x.dtype)
        y[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
        return y


@irdl_op_definition
class ConcatOp(NNOp):
    """The operands one after the other along ``axis``. Errors: E0202, E0203, E0205."""

    name = "nn.concat"
    xs = var_operand_def(TensorType)
    axis = prop_def(IntAttr)
    y = result_def(TensorType)

    @staticmethod
    def infer(xs: tuple[Spec, ...], *, axis: int) -> Spec:
        """Sizes add up along ``axis`` and agree elsewhere: where one is a number, all are."""
        check_same_dtype("concat", *xs)
        axis = check_axis(axis, xs[0].rank, "concat")
        for x in xs[1:]:
            if x.rank != xs[0].rank or any(
                i != axis and not may_equal(a, b)
                for i, (a, b) in enumerate(zip(x.dims, xs[0].dims, strict=False))
            ):
                raise CompileError(
                    "E0205",
                    f"concat along axis {axis}: the other axes differ",
                    [("shapes", ", ".join(shape_text(v.dims) for v in xs))],
                )
        total = sum((x.dims[axis] for x in xs), ZERO)
        columns = zip(*(x.dims for x in xs), strict=True)
        agreed = [next((d for d in same if d.constant is not None), same[0]) for same in columns]
        return xs[0].with_dims([*agreed[:axis], total, *agreed[axis + 1 :]])

    @staticmethod
    def reference(xs: tuple[Array, ...], *, axis: int) -> Array:
        """Concatenate."""
        return np.concatenate(xs, axis)


def contiguous_strides(dims: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Row-major element strides of a dense buffer."""
    strides: list[Expr] = []
    step = ZERO + 1
    for dim in reversed(dims):
        strides.append(step)
        step = step * dim
    return tuple(reversed(strides))

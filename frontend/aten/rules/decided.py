"""Operators whose results have sizes that data decides, and numbers that data gives."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder, axis_of
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.dtypes import boolean, i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.reduce import CumulativeOp, ReduceOp
from tapeout.ir.ops.sort import NonZeroOp, UniqueOp
from tapeout.ir.types import Spec, spec


def non_zero(b: Builder, x: SSAValue, dims: Sequence[Expr]) -> SSAValue:
    """Where ``x`` is not 0, one column each; ``dims`` are those of the result that counts them."""
    count = b.sizes.decide(dims, spec(x).size)
    return b.op(NonZeroOp, x if spec(x).rank else b.reshape(x, (1,)), count=(count,))


@rule("aten.nonzero")
def places(b: Builder, call: Call, x: SSAValue) -> SSAValue:
    """One row for each element that is not 0."""
    columns = non_zero(b, x, call.output.dims)
    rows = b.transpose(columns, (1, 0))
    return b.reshape(rows if spec(x).rank else b.part(rows, 1, 0, 0), call.output.dims)


@rule("aten.masked_select")
def masked_select(b: Builder, call: Call, x: SSAValue, mask: SSAValue) -> SSAValue:
    """The elements where a mask holds."""
    wide = b.map("where", mask, x, x)
    mask = b.expand(mask, spec(wide).dims)
    flat, holds = (b.reshape(v, (spec(wide).size,)) for v in (wide, mask))
    found = non_zero(b, holds, call.output.dims)
    y = b.op(GatherOp, flat, b.reshape(found, spec(found).dims[1:]), axis=0)
    return b.reshape(y, call.output.dims)


@rule("aten._unique2")
def unique(
    b: Builder,
    call: Call,
    x: SSAValue,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> tuple[SSAValue, ...]:
    """The distinct elements in order, which of them each element is, how many each has."""
    return _unique(b, call, x, None, spec(x).size)


@rule("aten.unique_dim")
def unique_slices(
    b: Builder,
    call: Call,
    x: SSAValue,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> tuple[SSAValue, ...]:
    """The distinct slices of an axis, and the same of them."""
    axis = axis_of(x, dim)
    return _unique(b, call, x, axis, spec(x).dims[axis])


def _unique(
    b: Builder, call: Call, x: SSAValue, axis: int | None, limit: Expr
) -> tuple[SSAValue, ...]:
    count = b.sizes.decide(call.output.dims, limit)
    y, _, *others = b.many(UniqueOp, x, axis=axis, count=(count,))
    made = zip((y, *others), call.outputs, strict=True)
    return tuple(_unless_empty(b, value, want) for value, want in made)


def _unless_empty(b: Builder, x: SSAValue, want: Spec) -> SSAValue:
    """A result in torch's shape; what was not asked for is empty there."""
    if want.dims == (as_expr(0),):
        return b.expand(b.constant(0, want.dtype), (0,))
    return b.reshape(x, want.dims)


@rule("aten.repeat_interleave.Tensor")
def repeated_places(
    b: Builder, call: Call, repeats: SSAValue, *, output_size: object = None
) -> SSAValue:
    """Each place as often as its number of repeats says: ``[0, 0, 2]`` for ``[2, 0, 1]``."""
    ends = b.op(CumulativeOp, b.convert(repeats, i64), fn="sum", axis=0)
    total = call.output.dims[0]
    b.bind(b.part(ends, 0, spec(ends).dims[0] - 1, 1), total)
    passed = b.map("le", ends, b.iota((total, 1), 0))
    y = b.op(ReduceOp, b.convert(passed, i64), fn="sum", axes=(1,))
    return b.convert(y, call.dtype)


@rule("aten._local_scalar_dense", "aten.item")
def item(b: Builder, call: Call, x: SSAValue) -> SSAValue | Expr:
    """The number in a tensor of one: an integer can be a size from here on."""
    if spec(x).dtype.is_float or spec(x).dtype is boolean:
        return b.reshape(x, ())
    value = b.sizes.of(call.node.meta["val"])
    b.bind(b.reshape(b.convert(x, i64), (1,)), value)
    return value

"""The same elements under another shape, order or number of copies."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import ONE, Expr, product
from tapeout.ir.shapes import broadcast, check_axis


@rule("Reshape")
def reshape(b: Builder, node: Call, x: Value, shape: Value) -> Value:
    """``x`` under ``shape``: 0 keeps a size unless ``allowzero``, -1 takes what is left."""
    keeps = not node.flag("allowzero")
    given = b.exprs(shape)
    dims = _decided(b, x, shape, keeps) if given is None else _resolved(node, x, given, keeps)
    return b.reshape(x, dims)


@rule("Flatten")
def flatten(b: Builder, node: Call, x: Value) -> Value:
    """A matrix: the axes before ``axis``, and the others."""
    axis = node.integer("axis", 1)
    axis = x.rank if axis == x.rank else check_axis(axis, max(x.rank, 1), "Flatten")
    return b.reshape(x, [product(x.dims[:axis]), product(x.dims[axis:])])


@rule("Transpose")
def transpose(b: Builder, node: Call, x: Value) -> Value:
    """The axes in the order ``perm``, by default reversed."""
    return b.transpose(x, node.integers("perm", tuple(reversed(range(x.rank)))))


@rule("Expand")
def expand(b: Builder, node: Call, x: Value, shape: Value) -> Value:
    """``x`` and ``shape`` broadcast against each other."""
    given = b.exprs(shape)
    if given is not None:
        return b.expand(x, broadcast(x.dims, given))
    rank = max(x.rank, b.length(shape))
    own = b.sizes([ONE] * (rank - x.rank) + list(x.dims))
    ones = b.sizes([ONE] * (rank - b.length(shape)))
    asked = b.concat([ones, shape], 0)
    return b.expand(x, b.dims_from(b.map("where", b.map("eq", asked, 1), own, asked)))


@rule("Tile")
def tile(b: Builder, node: Call, x: Value, repeats: Value) -> Value:
    """``repeats`` copies along each axis."""
    counts = b.dims_from(repeats)
    if len(counts) != x.rank:
        node.invalid("repeats has not one number per axis", ("repeats", len(counts)))
    wide = b.reshape(x, [d for dim in x.dims for d in (ONE, dim)])
    wide = b.expand(wide, [d for pair in zip(counts, x.dims, strict=True) for d in pair])
    return b.reshape(wide, [n * d for n, d in zip(counts, x.dims, strict=True)])


@rule("Concat")
def concat(b: Builder, node: Call, *xs: Value) -> Value:
    """The operands one after the other."""
    if not xs:
        node.invalid("an input is missing", ("inputs", 0))
    return b.concat(xs, node.integer("axis", 1))


def _resolved(node: Call, x: Value, given: tuple[Expr, ...], keeps: bool) -> list[Expr]:
    dims = list(given)
    if keeps and any(d == 0 for d in dims[x.rank :]):
        node.invalid("a size of 0 stands where the input has no axis", ("shape", list(given)))
    dims = [x.dims[i] if keeps and d == 0 else d for i, d in enumerate(dims)]
    open_ = [i for i, d in enumerate(dims) if d == -1]
    if len(open_) > 1:
        node.invalid("more than one size is -1", ("shape", list(given)))
    if open_:
        rest = product(d for d in dims if d != -1)
        dims[open_[0]] = x.spec.size // rest if rest != 0 else rest
    return dims


def _decided(b: Builder, x: Value, shape: Value, keeps: bool) -> tuple[Expr, ...]:
    """Sizes that the run decides, computed by operators as :func:`_resolved` does here."""
    count = b.length(shape)
    if keeps:
        own = b.sizes([x.dims[i] if i < x.rank else ONE for i in range(count)])
        shape = b.map("where", b.map("eq", shape, 0), own, shape)
    is_open = b.map("eq", shape, -1)
    rest = b.reduce("prod", b.map("where", is_open, b.sizes([1]), shape), [0], keepdims=True)
    left = b.map("div", b.sizes([x.spec.size]), rest)
    return b.dims_from(b.map("where", is_open, left, shape))

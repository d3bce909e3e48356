"""What a random graph is made of: one function per kind of operator."""

from __future__ import annotations

from xdsl.ir import SSAValue

from random_graphs.draw import PLACES, Draw
from tapeout.ir.dtypes import boolean, f16, f32, i64
from tapeout.ir.expr import Expr, as_expr, is_at_least
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.index import GatherElementsOp, GatherOp
from tapeout.ir.ops.norm import LayerNormOp, RmsNormOp, SoftmaxOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.reduce import ArgReduceOp, CumulativeOp
from tapeout.ir.ops.views import ConcatOp, PadOp, SliceOp
from tapeout.ir.types import Spec, spec

UNARY = ("neg", "abs", "tanh", "sigmoid", "gelu", "relu", "sin", "erf", "silu")
BINARY = ("add", "sub", "mul", "max", "min")


def unary(d: Draw) -> SSAValue | None:
    """A function of one value that keeps it moderate."""
    x = d.floats()
    return None if x is None else d.map(d.pick(UNARY), x)


def binary(d: Draw) -> SSAValue | None:
    """Two values of one shape, or one with a row, a column or a number."""
    x = d.value(lambda s: s.dtype.is_float or s.dtype is i64)
    if x is None:
        return None
    t = spec(x)
    same = d.value(lambda s: s == t)
    if t.dtype is i64 or d.chance(0.5):
        return None if same is None else d.exactly(d.map(d.pick(BINARY), x, same), x, same)
    other = _broadcasting(d, t)
    return d.map(d.pick(BINARY), *((x, other) if d.chance(0.5) else (other, x)))


def _broadcasting(d: Draw, t: Spec) -> SSAValue:
    dims = [1 if s.constant is None or d.chance(0.5) else s.constant for s in t.dims]
    first = int(d.random.integers(0, t.rank + 1))
    return d.weight(dims[first:], t.dtype)


def quotient(d: Draw) -> SSAValue | None:
    """Division by what is at least one half."""
    x = d.floats()
    if x is None:
        return None
    other = d.value(lambda s: s == spec(x))
    assert other is not None, "x itself fits"
    half = d.like(0.5, x)
    return d.map("div", x, d.map("add", d.map("abs", other), half))


def compare(d: Draw) -> SSAValue | None:
    """A truth value from exact numbers."""
    x = d.value(lambda s: s.dtype.kind != "bool")
    if x is None or x not in d.exact:
        return None
    other = d.value(lambda s: s == spec(x))
    if other is None or other not in d.exact:
        return None
    return d.exactly(d.map(d.pick(("lt", "eq", "ge")), x, other), x)


def logic(d: Draw) -> SSAValue | None:
    """Truth values combined."""
    x = d.value(lambda s: s.dtype is boolean)
    if x is None:
        return None
    other = d.value(lambda s: s == spec(x))
    assert other is not None, "x itself fits"
    return d.exactly(d.map("not", d.map(d.pick(("and", "or", "xor")), x, other)), x, other)


def where(d: Draw) -> SSAValue | None:
    """One of two values by a truth value."""
    mask = d.value(lambda s: s.dtype is boolean)
    if mask is None:
        return None
    x = d.value(lambda s: s.dtype.is_float and s.dims == spec(mask).dims)
    if x is None:
        return None
    return d.map("where", mask, x, d.like(float(d.random.standard_normal()), x))


def convert(d: Draw) -> SSAValue | None:
    """Between element types."""
    x = d.value(lambda s: True)
    assert x is not None, "the pool is never empty"
    t = spec(x)
    if t.dtype.is_float:
        if x in d.exact and d.chance(0.3):
            return d.exactly(d.convert(x, d.pick((i64, boolean))), x)
        return d.convert(x, f16 if t.dtype is f32 else f32)
    return d.exactly(d.convert(x, f32), x)


def transpose(d: Draw) -> SSAValue | None:
    """Any order of axes."""
    x = d.value(lambda s: s.rank >= 2)
    if x is None:
        return None
    perm = [int(p) for p in d.random.permutation(spec(x).rank)]
    return d.exactly(d.transpose(x, perm), x)


def reshape(d: Draw) -> SSAValue | None:
    """Two axes merged, one split, or one of size 1 put in."""
    x = d.value(lambda s: s.rank >= 1)
    if x is None:
        return None
    dims = list(spec(x).dims)
    axis = int(d.random.integers(len(dims)))
    size, kind = dims[axis].constant, int(d.random.integers(3))
    if kind == 0 and axis + 1 < len(dims):
        dims[axis : axis + 2] = [dims[axis] * dims[axis + 1]]
    elif kind == 1 and size is not None and size % 2 == 0 and len(dims) < 5:
        dims[axis : axis + 1] = [as_expr(size // 2), as_expr(2)]
    elif len(dims) < 5:
        dims.insert(axis, as_expr(1))
    return d.exactly(d.reshape(x, dims), x)


def expand(d: Draw) -> SSAValue | None:
    """Repetition along axes of size 1, or a new leading axis."""
    x = d.value(lambda s: s.rank <= 3)
    if x is None:
        return None
    dims = [as_expr(d.ragged(7)) if s == 1 else s for s in spec(x).dims]
    if d.chance(0.5):
        dims.insert(0, as_expr(d.ragged(4)))
    return d.exactly(d.expand(x, dims), x)


def cut(d: Draw) -> SSAValue | None:
    """A slice, maybe strided or backwards; symbolic axes whole or turned around."""
    x = d.value(lambda s: s.rank >= 1)
    if x is None:
        return None
    starts: list[Expr] = []
    sizes: list[Expr] = []
    steps: list[int] = []
    for size in spec(x).dims:
        start, length, step = _progression(d, size)
        starts.append(start)
        sizes.append(length)
        steps.append(step)
    y = d.op(SliceOp, x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))
    return d.exactly(y, x)


def _progression(d: Draw, size: Expr) -> tuple[Expr, Expr, int]:
    if d.chance(0.4):
        return as_expr(0), size, 1
    if size.constant is None or d.chance(0.2):
        return size - 1, size, -1
    step = d.pick((1, 1, 2, 3))
    start = int(d.random.integers(size.constant))
    length = int(d.random.integers(1, (size.constant - start - 1) // step + 2))
    return as_expr(start), as_expr(length), step


def pad(d: Draw) -> SSAValue | None:
    """Padding of one or two axes."""
    x = d.floats(least=1)
    if x is None:
        return None
    mode = d.pick(("constant", "constant", "edge", "reflect"))
    low: list[Expr] = []
    high: list[Expr] = []
    for size in spec(x).dims:
        room = 3 if mode != "reflect" else 0 if size.constant is None else size.constant - 1
        most = min(3, room) + 1
        low.append(as_expr(int(d.random.integers(most)) if d.chance(0.5) else 0))
        high.append(as_expr(int(d.random.integers(most)) if d.chance(0.5) else 0))
    value = d.like(1.5, x) if mode == "constant" and d.chance(0.5) else None
    return d.op(PadOp, x, value, low=tuple(low), high=tuple(high), mode=mode)


def concat(d: Draw) -> SSAValue | None:
    """Two or three values that differ along one axis at most."""
    x = d.value(lambda s: s.rank >= 1)
    if x is None:
        return None
    t, axis = spec(x), int(d.random.integers(spec(x).rank))

    def fits(s: Spec) -> bool:
        others = (i for i in range(t.rank) if i != axis)
        return (
            s.dtype is t.dtype and s.rank == t.rank and all(s.dims[i] == t.dims[i] for i in others)
        )

    xs = [x, d.value(fits) or x, *([x] if d.chance(0.3) else [])]
    return d.exactly(d.op(ConcatOp, tuple(xs), axis=axis), *xs)


def reduce(d: Draw) -> SSAValue | None:
    """A reduction over some axes."""
    x = d.floats(least=1)
    if x is None:
        return None
    rank = spec(x).rank
    axes = [a for a in range(rank) if d.chance(0.5)] or [rank - 1]
    if d.chance(0.3):
        return d.mean(x, axes)
    y = d.reduce(d.pick(("sum", "max", "min")), x, axes)
    if d.chance(0.5):
        return y
    return d.reshape(y, [s for i, s in enumerate(spec(x).dims) if i not in axes])


def cumulate(d: Draw) -> SSAValue | None:
    """Running sums."""
    x = d.floats(least=1)
    if x is None:
        return None
    axis = int(d.random.integers(spec(x).rank))
    flags = {"exclusive": d.chance(0.5), "reverse": d.chance(0.5)}
    return d.op(CumulativeOp, x, fn="sum", axis=axis, **flags)


def arg_reduce(d: Draw) -> SSAValue | None:
    """Where the greatest or least of exact numbers lies."""
    x = d.value(lambda s: s.rank >= 1 and s.dtype is not boolean)
    if x is None or x not in d.exact:
        return None
    axis = int(d.random.integers(spec(x).rank))
    y = d.op(ArgReduceOp, x, fn=d.pick(("max", "min")), axis=axis, last=d.chance(0.3))
    return d.exactly(y, x)


def softmax(d: Draw) -> SSAValue | None:
    """Softmax along any axis."""
    x = d.floats(least=1)
    return None if x is None else d.op(SoftmaxOp, x, axis=int(d.random.integers(spec(x).rank)))


def norm(d: Draw) -> SSAValue | None:
    """A layer norm or RMS norm over the last axis."""
    x = d.floats(least=2)
    if x is None:
        return None
    t = spec(x)
    width = t.dims[-1].constant
    if width is None or width < 4:
        return None
    scale = d.weight([width], t.dtype)
    if d.chance(0.5):
        return d.op(RmsNormOp, x, scale, axis=-1, epsilon=1e-3)
    return d.op(LayerNormOp, x, scale, d.weight([width], t.dtype), axis=-1, epsilon=1e-3)


def matmul(d: Draw) -> SSAValue | None:
    """A product with a weight, or of a value with itself turned."""
    x = d.floats(least=2)
    if x is None:
        return None
    t = spec(x)
    depth = t.dims[-1].constant
    if depth is None or d.chance(0.2):
        return d.map("tanh", d.matmul(x, x, transpose_b=True))
    width = d.ragged()
    shape = (width, depth) if (turned := d.chance(0.3)) else (depth, width)
    y = d.matmul(x, d.weight(shape, t.dtype, depth**-0.5), transpose_b=turned)
    return d.map("add", y, d.weight([width], t.dtype)) if d.chance(0.5) else y


def conv(d: Draw) -> SSAValue | None:
    """A convolution over one or two axes: dense, grouped or depthwise."""
    x = d.value(lambda s: s.dtype is f32 and s.rank in (3, 4))
    if x is None:
        return None
    t = spec(x)
    channels, n = t.dims[1].constant, t.rank - 2
    if channels is None:
        return None
    kernel = [int(k) for k in d.random.integers(1, 4, n)]
    pads = [int(p) for p in d.random.integers(0, 2, 2 * n)]
    strides = tuple(int(s) for s in d.random.integers(1, 3, n))
    dilations = tuple(int(s) for s in d.random.integers(1, 3, n))
    for i, k in enumerate(kernel):
        reach = t.dims[2 + i] + (pads[i] + pads[n + i]) - dilations[i] * (k - 1) - 1
        if not is_at_least(reach, 0):
            return None
    groups = d.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    outputs = groups * d.pick((1, 2, 3, 8)) if groups > 1 else d.ragged(33)
    inner = channels // groups
    w = d.weight([outputs, inner, *kernel], f32, inner**-0.5)
    bias = d.weight([outputs]) if d.chance(0.5) else None
    return d.op(
        ConvOp, x, w, bias, strides=strides, pads=tuple(pads), dilations=dilations, groups=groups
    )  # fmt: skip


def pool(d: Draw) -> SSAValue | None:
    """A pool over two axes."""
    x = d.value(lambda s: s.dtype is f32 and s.rank == 4)
    if x is None:
        return None
    kernel = tuple(int(k) for k in d.random.integers(1, 4, 2))
    pads = tuple(int(d.random.integers(0, (k + 1) // 2)) for k in (*kernel, *kernel))
    strides = tuple(int(s) for s in d.random.integers(1, 3, 2))
    sizes: list[Expr] = []
    for i, k in enumerate(kernel):
        reach = spec(x).dims[2 + i] + (pads[i] + pads[2 + i] - k)
        if not is_at_least(reach, 0):
            return None
        sizes.append(reach // strides[i] + 1)
    return d.op(
        PoolOp, x, fn=d.pick(("max", "mean", "sum")), kernel=kernel, strides=strides, pads=pads,
        dilations=(1, 1), sizes=tuple(sizes),
    )  # fmt: skip


def gather(d: Draw) -> SSAValue | None:
    """Slices looked up by an input's numbers, all of which are in range."""
    places = d.input("places")
    x = d.value(lambda s: any(is_at_least(n, PLACES) for n in s.dims))
    if x is None:
        return None
    axis = d.pick([i for i, n in enumerate(spec(x).dims) if is_at_least(n, PLACES)])
    return d.exactly(d.op(GatherOp, x, places, axis=axis), x)


def gather_elements(d: Draw) -> SSAValue | None:
    """Elements looked up by an input's numbers."""
    places = d.input("numbers")
    x = d.value(lambda s: s.dims == spec(places).dims)
    if x is None:
        return None
    axes = [i for i, n in enumerate(spec(x).dims) if is_at_least(n, PLACES)]
    return d.exactly(d.op(GatherElementsOp, x, places, axis=d.pick(axes)), x) if axes else None


def attention(d: Draw) -> SSAValue | None:
    """Attention of a value to itself."""
    x = d.value(lambda s: s.dtype is f32 and s.rank == 4 and s.dims[3].constant is not None)
    if x is None:
        return None
    depth = int(spec(x).dims[3])
    other = d.value(lambda s: s == spec(x)) or x
    return d.op(
        AttentionOp, x, other, other, None, scale=depth**-0.5, causal=d.chance(0.5)
    )  # fmt: skip


MOVES = (
    *(unary, unary, binary, binary, binary, quotient, compare, logic, where, convert),
    *(transpose, reshape, expand, cut, pad, concat, reduce, reduce, cumulate, arg_reduce),
    *(softmax, norm, matmul, matmul, conv, conv, pool, gather, gather_elements, attention),
)

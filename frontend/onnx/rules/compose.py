"""Small compositions that rules of several families share; no import rules in here."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import DType, f32
from tapeout.ir.expr import Expr, ExprLike, product
from tapeout.ir.shapes import check_rank


def wide_type(dtype: DType) -> DType:
    """The type in which sums of ``dtype`` are formed: f32 for narrower floats."""
    return f32 if dtype.is_float and dtype.bits < 32 else dtype


def widened(b: Builder, x: Value) -> Value:
    """``x`` in its :func:`wide_type`."""
    return b.convert(x, wide_type(x.dtype))


def mean(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    """The mean along axes, which stay with size 1."""
    count = b.size(product(x.dims[a] for a in axes), x.dtype)
    return b.map("div", b.reduce("sum", x, axes, keepdims=True), count)


def per_channel(b: Builder, parameter: Value, rank: int, axis: int = 1) -> Value:
    """A vector as a tensor of ``rank`` axes that broadcasts along all but ``axis``."""
    check_rank("a parameter", "the vector", parameter.spec, 1)
    dims: list[ExprLike] = [1] * rank
    dims[axis] = parameter.dims[0]
    return b.reshape(parameter, dims)


def split_heads(b: Builder, x: Value, heads: int) -> Value:
    """``[B, S, H * D]`` as ``[B, H, S, D]``."""
    batch, length, hidden = x.dims
    return b.transpose(b.reshape(x, [batch, length, heads, hidden // heads]), (0, 2, 1, 3))


def join_heads(b: Builder, x: Value) -> Value:
    """``[B, H, S, D]`` as ``[B, S, H * D]``."""
    batch, heads, length, depth = x.dims
    return b.reshape(b.transpose(x, (0, 2, 1, 3)), [batch, length, heads * depth])


def log_softmax(b: Builder, x: Value, axis: int) -> Value:
    """``log(softmax(x))`` along ``axis``, without the overflow of taking it so."""
    wide = widened(b, x)
    shifted = b.map("sub", wide, b.reduce("max", wide, [axis], keepdims=True))
    total = b.reduce("sum", b.map("exp", shifted), [axis], keepdims=True)
    return b.convert(b.map("sub", shifted, b.map("log", total)), x.dtype)


def insert_axis(b: Builder, x: Value, axis: int) -> Value:
    """``x`` with an axis of size 1 before ``axis``, counted from the front."""
    return b.reshape(x, [*x.dims[:axis], 1, *x.dims[axis:]])


def drop_axis(b: Builder, x: Value, axis: int) -> Value:
    """``x`` without ``axis``, whose size is 1."""
    return b.reshape(x, [d for i, d in enumerate(x.dims) if i != axis % x.rank])


def clamp(b: Builder, x: Value, low: float, high: float) -> Value:
    """``min(max(x, low), high)``."""
    return b.map("min", b.map("max", x, low), high)


def fixed(node: Call, dim: Expr, what: str) -> int:
    """A size that must be a number (E0402): ``what`` names it in the message."""
    if dim.constant is None:
        node.refuse(
            f"{what} must have a fixed size", ("size", dim), fix="give this dimension one size"
        )
    return dim.constant


def need_rank(node: Call, what: str, x: Value, *ranks: int) -> None:
    """Refuse (E0310) an input ``what`` with another number of axes."""
    if x.rank not in ranks:
        node.invalid(
            f"{what} needs {' or '.join(map(str, ranks))} axes",
            ("shape", ", ".join(map(str, x.dims)) or "a scalar"),
        )


def single(b: Builder, node: Call, x: Value, what: str) -> int | float:
    """The one number of an input that must be known (E0405) and be one (E0310)."""
    values = b.array(node, x, what).reshape(-1)
    if len(values) != 1:
        node.invalid(f"{what} is not one number", ("elements", len(values)))
    return values[0].item()


def whole(b: Builder, node: Call, x: Value, what: str) -> int:
    """:func:`single` as an integer."""
    return int(single(b, node, x, what))


def all_given(node: Call, xs: Sequence[Value | None]) -> tuple[Value, ...]:
    """The operands of a variadic operator, none of which may be left out (E0310)."""
    given = tuple(x for x in xs if x is not None)
    if not given or len(given) != len(xs):
        node.invalid("an operand is left out", ("given", len(given)), ("operands", len(xs)))
    return given


def one_of(node: Call, name: str, default: str, known: Sequence[str]) -> str:
    """A text attribute with one of the ``known`` values; E0310 otherwise."""
    value = node.text(name, default)
    if value not in known:
        node.invalid(
            f"attribute {name!r} has an unknown value",
            ("value", value),
            ("known", ", ".join(known)),
        )
    return value

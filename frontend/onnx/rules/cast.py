"""Changes of the element type, and operators that change nothing."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.element_types import element_type as onnx_type
from tapeout.frontend.onnx.interface import element_type
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import AnyValue, Value
from tapeout.ir.dtypes import DType, boolean, f8e8m0, f32
from tapeout.ir.errors import CompileError
from tapeout.ir.ops.pointwise import BitcastOp


def type_attribute(node: Call, name: str, default: DType | None = None) -> DType:
    """The element type that an attribute names by ONNX's number."""
    if default is not None and not node.has(name):
        return default
    code = onnx_type(node.integer(name), node.node.label)
    return element_type(code.dtype, node.node.label)


@rule("Cast")
def cast(b: Builder, node: Call, x: Value) -> Value:
    """``x`` in the type ``to``."""
    return _cast(b, node, x, type_attribute(node, "to"))


@rule("CastLike")
def cast_like(b: Builder, node: Call, x: Value, like: Value) -> Value:
    """``x`` in the type of another tensor."""
    return _cast(b, node, x, like.dtype)


@rule("BitCast")
def bit_cast(b: Builder, node: Call, x: Value) -> Value:
    """The same bits as another type of the same width."""
    to = type_attribute(node, "to")
    if to.bits != x.dtype.bits:
        node.invalid("the types differ in width", ("from", x.dtype), ("to", to))
    return x if to is x.dtype else b.make(BitcastOp, x, to=to)


@rule("Identity", containers=True)
def identity(b: Builder, node: Call, x: AnyValue) -> AnyValue:
    """``x``."""
    return x


def _cast(b: Builder, node: Call, x: Value, to: DType) -> Value:
    if x.dtype.kind == "string":
        node.refuse("strings have no support", fix="turn text into numbers outside the model")
    if to is f8e8m0 and x.dtype.is_float:
        return _to_scale(b, node, x)
    eight_bit = to.is_float and to.bits == 8 and x.dtype.is_float
    return b.convert(x, to, saturate=eight_bit and node.flag("saturate", True))


def _to_scale(b: Builder, node: Call, x: Value) -> Value:
    """A power of two: rounded as the node asks, and kept in range if it saturates."""
    wide = b.convert(x, f32)
    if node.flag("saturate", True):
        wide = b.map("min", b.map("max", wide, 2.0**-127), 2.0**127)
    near = b.convert(b.convert(wide, f8e8m0), f32)
    mode = node.text("round_mode", "up")
    if mode == "up":
        near = b.map("where", b.map("lt", near, wide), b.map("mul", near, 2), near)
    elif mode == "down":
        near = b.map("where", b.map("gt", near, wide), b.map("mul", near, 0.5), near)
    return b.convert(near, f8e8m0)


@rule("Dropout")
def dropout(
    b: Builder, node: Call, x: Value, ratio: Value | None = None, training: Value | None = None
) -> tuple[Value, Value]:
    """``x`` and a mask of ones: nothing is dropped in inference."""
    if training is not None and b.ints(node, training, "training_mode")[0]:
        dropped = 0.5 if ratio is None else b.number(node, ratio, "ratio")
        if dropped:
            raise CompileError(
                "E0407",
                f"{node.node.label}: dropout while training needs random numbers",
                [("ratio", dropped)],
                "export the model for inference",
            )
    return x, b.filled(x.dims, 1, boolean)

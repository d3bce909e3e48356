"""Changes of the element type, and operators that change nothing."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.frontend.onnx.interface import element_type
from tapeout.frontend.onnx.element_types import element_type as onnx_type
from tapeout.frontend.onnx.value import AnyValue
from tapeout.ir.dtypes import DType, boolean


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


@rule("Identity", containers=True)
def identity(b: Builder, node: Call, x: AnyValue) -> AnyValue:
    """``x``."""
    return x


def _cast(b: Builder, node: Call, x: Value, to: DType) -> Value:
    if x.dtype.kind == "string":
        node.refuse("strings have no support", fix="turn text into numbers outside the model")
    eight_bit = to.is_float and to.bits == 8 and x.dtype.is_float
    return b.convert(x, to, saturate=eight_bit and node.flag("saturate", True))


@rule("Dropout")
def dropout(
    b: Builder, node: Call, x: Value, ratio: Value | None = None, training: Value | None = None
) -> tuple[Value, Value]:
    """``x`` and a mask of ones: nothing is dropped in inference."""
    if training is not None and b.ints(node, training, "training_mode")[0]:
        dropped = 0.5 if ratio is None else b.number(node, ratio, "ratio")
        if dropped:
            node.refuse("dropout while training needs random numbers", ("ratio", dropped))
    return x, b.filled(x.dims, 1, boolean)

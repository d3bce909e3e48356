"""Object detection: non-maximum suppression."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import DType, f32, i64
from tapeout.ir.expr import product
from tapeout.ir.ops.sort import NmsOp


@rule("NonMaxSuppression", since=10)
def non_max_suppression(
    b: Builder,
    node: Call,
    boxes: Value,
    scores: Value,
    most: Value | None = None,
    overlap: Value | None = None,
    least: Value | None = None,
) -> Value:
    """Rows of batch, class and box; without a limit per class none is chosen, as ONNX says."""
    corners = node.integer("center_point_box")
    if corners not in (0, 1):
        node.invalid("attribute 'center_point_box' is neither 0 nor 1", ("it is", corners))
    count = b.symbols.fresh("n")
    return b.make(
        NmsOp,
        boxes,
        scores,
        _scalar(b, most, 0, i64),
        _scalar(b, overlap, 0, f32),
        _scalar(b, least, float("-inf"), f32),
        center_point_box=corners == 1,
        count=(count,),
    )


def _scalar(b: Builder, x: Value | None, default: float, dtype: DType) -> Value:
    if x is None or product(x.dims) == 0:
        return b.scalar(default, dtype)
    return b.convert(b.reshape(x, ()), dtype)

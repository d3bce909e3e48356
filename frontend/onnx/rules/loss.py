"""Losses over classes."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import drop_axis, insert_axis, log_softmax, one_of
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import i64
from tapeout.ir.ops.index import GatherElementsOp, GatherOp


@rule("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood(
    b: Builder, node: Call, x: Value, target: Value, weight: Value | None = None
) -> Value:
    """``-x[n, target[n]]`` times the weight of the class, summed, averaged or as it is.

    Targets equal to ``ignore_index`` count neither in the sum nor in the weights of the mean.
    """
    reduction = one_of(node, "reduction", "mean", ("none", "sum", "mean"))
    if x.rank < 2 or target.rank != x.rank - 1:
        node.invalid("targets lack the axis of classes", ("ranks", (x.rank, target.rank)))
    target = b.convert(target, i64)
    share = _shares(b, node, x, target, weight)
    picked = b.make(GatherElementsOp, x, insert_axis(b, _valid(b, node, target), 1), axis=1)
    loss = b.map("neg", drop_axis(b, picked, 1))
    loss = loss if share is None else b.map("mul", loss, share)
    if reduction == "none":
        return loss
    axes = range(loss.rank)
    total = b.reduce("sum", loss, axes)
    if reduction == "sum":
        return total
    parts = b.size(loss.spec.size, x.dtype) if share is None else b.reduce("sum", share, axes)
    return b.map("div", total, parts)


@rule("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy(
    b: Builder, node: Call, x: Value, target: Value, weight: Value | None = None
) -> tuple[Value, Value]:
    """The loss above over the logarithm of the softmax of ``x``, which is the second output."""
    logarithms = log_softmax(b, x, 1)
    return negative_log_likelihood(b, node, logarithms, target, weight), logarithms


def _valid(b: Builder, node: Call, target: Value) -> Value:
    """Targets with any class in place of the ignored one, which need not be a class."""
    if not node.has("ignore_index"):
        return target
    ignored = b.map("eq", target, node.integer("ignore_index"))
    return b.map("where", ignored, b.scalar(0, i64), target)


def _shares(b: Builder, node: Call, x: Value, target: Value, weight: Value | None) -> Value | None:
    """How much each target counts; None when all count alike."""
    if not node.has("ignore_index"):
        return None if weight is None else b.make(GatherOp, weight, target, axis=0)
    ignored = b.map("eq", target, node.integer("ignore_index"))
    counted = b.scalar(1, x.dtype)
    if weight is not None:
        counted = b.make(GatherOp, weight, _valid(b, node, target), axis=0)
    return b.map("where", ignored, b.scalar(0, x.dtype), counted)

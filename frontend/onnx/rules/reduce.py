"""Reductions along axes, and running sums."""

from collections.abc import Callable, Mapping

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import product
from tapeout.ir.ops.reduce import CumulativeOp
from tapeout.ir.shapes import check_axis

Reduction = Callable[[Builder, Value, list[int], bool], Value]


ON_BOOLS: Mapping[str, str] = {"max": "any", "min": "all"}


def _plain(fn: str) -> Reduction:
    def reduce(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
        named = ON_BOOLS[fn] if x.dtype is boolean else fn
        return b.reduce(named, x, axes, keepdims=keep)

    return reduce


def _mean(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    count = b.size(product(x.dims[a] for a in axes), x.dtype)
    return b.map("div", b.reduce("sum", x, axes, keepdims=keep), count)


def _sum_abs(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    return b.reduce("sum", b.map("abs", x), axes, keepdims=keep)


def _sum_square(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    return b.reduce("sum", b.map("mul", x, x), axes, keepdims=keep)


def _length(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    return b.map("sqrt", _sum_square(b, x, axes, keep))


def _log_sum(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    return b.map("log", b.reduce("sum", x, axes, keepdims=keep))


def _log_sum_exp(b: Builder, x: Value, axes: list[int], keep: bool) -> Value:
    top = b.reduce("max", x, axes, keepdims=True)
    # An infinite maximum (of nothing, or of infinities) would make NaN of the difference.
    top = b.map("where", b.map("is_inf", top), b.scalar(0, x.dtype), top)
    total = b.reduce("sum", b.map("exp", b.map("sub", x, top)), axes, keepdims=True)
    made = b.map("add", b.map("log", total), top)
    return made if keep else b.reshape(made, [d for i, d in enumerate(x.dims) if i not in axes])


REDUCTIONS: Mapping[str, Reduction] = {
    "ReduceL1": _sum_abs,
    "ReduceL2": _length,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _plain("max"),
    "ReduceMean": _mean,
    "ReduceMin": _plain("min"),
    "ReduceProd": _plain("prod"),
    "ReduceSum": _plain("sum"),
    "ReduceSumSquare": _sum_square,
}


@rule(*REDUCTIONS)
def reduce(b: Builder, node: Call, x: Value, axes: Value | None = None) -> Value:
    """Combine along ``axes``, an attribute or an input; along all when there are none."""
    given = b.ints(node, axes, "axes") if axes is not None else list(node.integers("axes"))
    if not given and node.flag("noop_with_empty_axes"):
        along: list[int] = []
    else:
        along = sorted({check_axis(a, x.rank, node.node.op_type) for a in given or range(x.rank)})
    return REDUCTIONS[node.node.op_type](b, x, along, node.flag("keepdims", True))


@rule("CumSum", "CumProd")
def cumulative(b: Builder, node: Call, x: Value, axis: Value) -> Value:
    """The running sum or product along ``axis``."""
    (along,) = b.ints(node, axis, "axis")
    return b.make(
        CumulativeOp,
        x,
        fn="sum" if node.node.op_type == "CumSum" else "prod",
        axis=check_axis(along, x.rank, node.node.op_type),
        exclusive=node.flag("exclusive"),
        reverse=node.flag("reverse"),
    )

"""A transposed convolution is plain ones, and keeps its numbers for every kind of window."""

from typing import Any

import pytest

from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.passes.layout.phases import SplitPhases
from tapeout.passes.pipeline import LAYOUT, SIMPLIFY


def spread(g: Any, x: Any, w: Any, n: int, *, bias: Any = None, **attrs: Any) -> Any:
    window = {
        "strides": (2,) * n,
        "pads": (0,) * (2 * n),
        "dilations": (1,) * n,
        "output_padding": (0,) * n,
    }
    return g.op(ConvTransposeOp, x, w, bias, **(window | attrs))


WINDOWS: dict[str, tuple[int, dict[str, Any]]] = {
    "kernel_of_stride": (2, {}),
    "kernel_of_two_strides": (4, {"pads": (1, 1, 1, 1)}),
    "odd_kernel_with_output_padding": (3, {"pads": (1, 1, 1, 1), "output_padding": (1, 1)}),
    "kernel_below_stride": (2, {"strides": (3, 3)}),
    "gaps_at_the_end": (1, {"strides": (3, 3), "output_padding": (2, 2)}),
    "two_strides": (5, {"strides": (1, 3), "pads": (2, 1, 0, 2)}),
    "dilated": (3, {"strides": (1, 1), "dilations": (2, 3), "pads": (2, 0, 1, 0)}),
    "wide_low_pad": (6, {"pads": (3, 3, 2, 2)}),
}


@pytest.mark.parametrize(("kernel", "attrs"), WINDOWS.values(), ids=WINDOWS)
def test_every_window_keeps_its_numbers(graph: Any, check: Any, kernel: int, attrs: Any):
    g = graph(x="f32 B, 4, S, 5")
    y = spread(g, g["x"], g.weight(4, 3, kernel, kernel), 2, bias=g.weight(3), **attrs)
    counts = check(g.returning(y), [SplitPhases()], {"B": 2, "S": 3}, {"B": 1, "S": 6}, rtol=1e-5)
    assert counts["conv"] == 1
    assert not counts["conv_transpose"]


@pytest.mark.parametrize(("sizes", "n"), [("S", 1), ("S, 3, 2", 3)])
def test_other_ranks_keep_their_numbers(graph: Any, check: Any, sizes: str, n: int):
    g = graph(x=f"f32 B, 4, {sizes}")
    y = spread(g, g["x"], g.weight(4, 2, *[3] * n), n)
    counts = check(g.returning(y), [SplitPhases()], {"B": 2, "S": 3}, rtol=1e-5)
    assert counts["conv"] == 1


@pytest.mark.parametrize("outputs", [1, 2])
def test_groups_are_a_convolution_for_each_phase(graph: Any, check: Any, outputs: int):
    g = graph(x="f32 B, 4, S, 5")
    w, bias = g.weight(4, outputs, 4, 4), g.weight(4 * outputs)
    y = spread(g, g["x"], w, 2, bias=bias, groups=4, pads=(1, 1, 1, 1))
    counts = check(g.returning(y), [SplitPhases()], {"B": 2, "S": 3}, rtol=1e-5)
    assert counts["conv"] == 4


def test_what_is_no_plain_convolution_stays(graph: Any, check: Any):
    g = graph(x="f32 B, 4, S, 5", w="f32 4, 2, 3, 3")
    dilated = spread(g, g["x"], g.weight(4, 2, 3, 3), 2, dilations=(2, 2))
    open_weights = spread(g, g["x"], g["w"], 2)
    wide_pads = spread(g, g["x"], g.weight(4, 2, 3, 3), 2, pads=(4, 4, 0, 0))
    module = g.returning(dilated, open_weights, wide_pads)
    counts = check(module, [SplitPhases()], {"B": 2, "S": 7})
    assert counts["conv_transpose"] == 3


def test_the_whole_pipeline_keeps_channels_innermost(graph: Any, check: Any):
    # One transposition turns the input, one interleaves, one turns the output.
    g = graph(x="f32 B, 4, S, 5")
    y = g.map("relu", spread(g, g["x"], g.weight(4, 8, 4, 4), 2, pads=(1, 1, 1, 1)))
    y = g.conv(spread(g, y, g.weight(8, 8, 2, 2), 2), 8, 3)
    counts = check(g.returning(y), [*SIMPLIFY, *LAYOUT], {"B": 2, "S": 3}, rtol=1e-5)
    assert counts["transpose"] == 4

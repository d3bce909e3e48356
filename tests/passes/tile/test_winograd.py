"""Winograd's algorithm against the direct sum, on even and odd sizes, with and without more."""

import numpy as np
import pytest
from xdsl.ir import Block, Region

from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import KernelOp, ReturnOp
from tapeout.ir.tile.interpret import run
from tapeout.ir.types import TensorType
from tapeout.passes.tile.kernel_io import Machine
from tapeout.passes.tile.pull import NotPullable
from tapeout.passes.tile.winograd import lower_winograd

MACHINE = Machine(lanes=16, tile_m=14, tile_n=32, l1_bytes=32_768, l2_bytes=1_048_576)


def kernel(height: int, width: int, channels: int, outputs: int, stride: int = 1) -> KernelOp:
    """``relu(conv3x3(x) + bias)`` without padding."""
    shapes = [(2, height + 2, width + 2, channels), (outputs, channels, 3, 3), (outputs,)]
    block = Block(arg_types=[TensorType.of(s, f32) for s in shapes])
    x, w, bias = block.args
    conv = ConvOp.make(
        x, w, bias, strides=(stride,) * 2, pads=(0,) * 4, dilations=(1, 1), channels_last=True
    )
    relu = MapOp.make([conv.y], fn="relu")
    block.add_ops([conv, relu, ReturnOp([relu.y])])
    return KernelOp("k", Region(block))


@pytest.mark.parametrize(
    ("height", "width", "channels", "outputs"),
    [(12, 12, 32, 32), (13, 11, 32, 40), (11, 12, 48, 33)],
)
def test_winograd_agrees_with_the_direct_sum(
    height: int, width: int, channels: int, outputs: int
) -> None:
    made = kernel(height, width, channels, outputs)
    generator = np.random.default_rng(5)
    arrays = [
        generator.standard_normal((2, height + 2, width + 2, channels), np.float32),
        generator.standard_normal((outputs, channels, 3, 3), np.float32),
        generator.standard_normal(outputs, np.float32),
    ]
    (want,) = Evaluator(Module()).block(made.body.block, arrays)
    lowered = lower_winograd(made, MACHINE, {1, 2})
    packed = [lowered.packs[i](a) if i in lowered.packs else a for i, a in enumerate(arrays)]
    (got,) = run(lowered.program, packed, {})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()))


def test_a_strided_convolution_is_left_to_others() -> None:
    with pytest.raises(NotPullable):
        lower_winograd(kernel(24, 24, 32, 32, stride=2), MACHINE, {1, 2})


def test_filters_that_are_not_constant_are_left_to_others() -> None:
    with pytest.raises(NotPullable):
        lower_winograd(kernel(12, 12, 32, 32), MACHINE, set())

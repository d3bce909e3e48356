"""Transposed convolutions as plain ones: one small kernel for each phase of the stride."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.expr import ZERO, as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.conv_transpose import ConvTransposeOp
from tapeout.ir.ops.views import ConcatOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import Array
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive

MOST_PHASES = 4096
"""More output channels than this, and a weight that grows with them, gain nothing."""

MOST_CONVOLUTIONS = 64
"""With groups, each phase is a convolution of its own: a kernel each."""


@dataclass(frozen=True)
class SplitPhases(Pass):
    """Compute a transposed convolution where its input lies, then interleave.

    Saves the search for the few elements that reach each place of the result: of ``stride``
    neighbours along an axis, each is an ordinary convolution with every ``stride``-th weight.
    """

    name = "split-phases"

    def apply(self, module: Module) -> None:
        """Rewrite every transposed convolution with fixed weights."""
        drive(module, [TransposedConv()])


@dataclass(frozen=True)
class Axis:
    """One spatial axis: ``y[stride * q + r - low] = sum_j x[q - j] * w[r + stride * j]``.

    ``first`` is the first ``q`` that the result needs, ``taps`` how many ``j`` there are.
    """

    kernel: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def taps(self) -> int:
        """Kernel positions of one phase."""
        return -(-self.kernel // self.stride)

    @property
    def reach(self) -> int:
        """How far the last tap lies from the first, in elements of the input."""
        return (self.taps - 1) * self.dilation

    @property
    def first(self) -> int:
        """The first group of phases of which anything is kept."""
        return self.low // self.stride

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of the convolution that computes just the groups that are kept."""
        end = -(-((self.kernel - 1) * self.dilation + 1 - self.high) // self.stride)
        return self.reach - self.first, end - 1

    @property
    def cut(self) -> int:
        """Elements of the first group that are not kept."""
        return self.low - self.first * self.stride

    @property
    def fits(self) -> bool:
        """Whether this way of computing exists: dilated phases would not be evenly spaced."""
        return min(self.pads) >= 0 and (self.stride == 1 or self.dilation == 1)


class TransposedConv(Pattern[ConvTransposeOp]):
    """``conv_transpose(x, w) = interleave(conv(x, phases of w))``.

    With groups of channels the phases are convolutions of their own, so that groups stay
    neighbours; else they are output channels of one.
    """

    root = ConvTransposeOp

    def _rewrite(self, op: ConvTransposeOp, edit: Edit) -> Replacement:
        weights, bias = edit.array(op.w), edit.array(op.bias)
        if weights is None or (op.bias is not None and bias is None):
            return None
        axes = _axes(op, weights.shape[2:])
        groups, count = op.groups.data, prod(a.stride for a in axes)
        alone = groups > 1
        most = MOST_CONVOLUTIONS if alone else MOST_PHASES // max(1, weights.shape[1])
        if not all(a.fits for a in axes) or count > max(1, most):
            return None
        kernels = list(_phases(weights, groups, axes))
        attrs = {
            "strides": (1,) * len(axes),
            "dilations": tuple(a.dilation for a in axes),
            "pads": tuple(a.pads[side] for side in (0, 1) for a in axes),
            "groups": groups,
        }
        if not alone:
            bias = None if bias is None else np.tile(bias, count)
            kernels = [np.concatenate(kernels)]
        fixed = None if bias is None else edit.constant(bias)
        parts = [edit.add(ConvOp, op.x, edit.derived(k, op.w), fixed, **attrs) for k in kernels]
        together = parts[0] if len(parts) == 1 else edit.add(ConcatOp, parts, axis=1)
        return _kept(op, _interleaved(together, axes, edit), axes, edit)


def _axes(op: ConvTransposeOp, kernel: Sequence[int]) -> list[Axis]:
    at, n = op.attrs(), len(kernel)
    return [
        Axis(
            kernel[i],
            at["strides"][i],
            at["dilations"][i],
            at["pads"][i],
            at["pads"][n + i] - at["output_padding"][i],
        )
        for i in range(n)
    ]


def _phases(weights: Array, groups: int, axes: Sequence[Axis]) -> Sequence[Array]:
    """``[C, O/groups, *K]`` as ``[O, C/groups, *taps]`` for each phase, the last axis fastest."""
    channels, outputs, *kernel = weights.shape
    grouped = weights.reshape(groups, channels // groups, outputs, *kernel).swapaxes(1, 2)
    plain = grouped.reshape(groups * outputs, channels // groups, *kernel)
    missing = [(0, a.taps * a.stride - a.kernel) for a in axes]
    whole = np.pad(plain, [(0, 0), (0, 0), *missing])
    back = (slice(None, None, -1),) * len(axes)
    phases = product(*(range(a.stride) for a in axes))
    picked = [tuple(slice(r, None, a.stride) for r, a in zip(p, axes, strict=True)) for p in phases]
    return [np.ascontiguousarray(whole[(..., *p)][(..., *back)]) for p in picked]


def _interleaved(y: SSAValue, axes: Sequence[Axis], edit: Edit) -> SSAValue:
    """``[N, phases * O, *Q]`` to ``[N, O, *(Q * stride)]``."""
    strides = [a.stride for a in axes]
    if prod(strides) == 1:
        return y
    batch, channels, *groups = spec(y).dims
    n = len(axes)
    apart = (batch, *map(as_expr, strides), channels // prod(strides), *groups)
    split = edit.add(ReshapeOp, y, shape=apart)
    pairs = [axis for i in range(n) for axis in (n + 2 + i, 1 + i)]
    turned = edit.add(TransposeOp, split, perm=(0, n + 1, *pairs))
    sizes = [q * s for q, s in zip(groups, strides, strict=True)]
    return edit.add(ReshapeOp, turned, shape=(batch, apart[n + 1], *sizes))


def _kept(op: ConvTransposeOp, y: SSAValue, axes: Sequence[Axis], edit: Edit) -> SSAValue:
    """The part of the result that the pads leave."""
    if spec(y) == spec(op.y):
        return y
    starts = (ZERO, ZERO, *(as_expr(a.cut) for a in axes))
    return edit.add(SliceOp, y, starts=starts, sizes=spec(op.y).dims, steps=(1,) * len(starts))

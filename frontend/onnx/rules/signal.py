"""Fourier transforms as products with matrices, windows, and mel filters."""

import math

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, need_rank, single, whole, wide_type, widened
from tapeout.frontend.onnx.rules.product import matmul
from tapeout.frontend.onnx.rules.quantize import named_type
from tapeout.frontend.onnx.value import Array, Value
from tapeout.ir.dtypes import f32, f64
from tapeout.ir.expr import as_expr
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.views import PadOp
from tapeout.ir.shapes import check_axis

MATRIX_ELEMENTS = 1 << 24
"""The largest transform that is written out as a matrix."""


@rule("DFT", since=17)
def dft_attribute(b: Builder, node: Call, x: Value, length: Value | None = None) -> Value:
    """The discrete Fourier transform along the attribute ``axis``."""
    return _dft(b, node, x, length, node.integer("axis", 1))


@rule("DFT", since=20)
def dft(
    b: Builder, node: Call, x: Value, length: Value | None = None, axis: Value | None = None
) -> Value:
    """The discrete Fourier transform along the axis given as an input, by default the last."""
    return _dft(b, node, x, length, -2 if axis is None else whole(b, node, axis, "the axis"))


def _dft(b: Builder, node: Call, x: Value, length: Value | None, axis: int) -> Value:
    """``x [..., n, ..., c]``, ``c`` 1 for real and 2 for complex numbers, times a matrix."""
    axis = check_axis(axis, x.rank, "DFT")
    if axis == x.rank - 1:
        node.invalid("the last axis holds real and imaginary parts", ("axis", axis))
    parts = fixed(node, x.dims[-1], "the axis of real and imaginary parts")
    inverse, onesided = node.flag("inverse"), node.flag("onesided")
    if x.dims[axis].constant is None and length is None and not (inverse and onesided):
        _check_parts(node, parts, 1, inverse=inverse, onesided=onesided)
        made = _open_matrix(b, x, axis, inverse=inverse, onesided=onesided)
        return transform(b, node, x, made, axis)
    have = fixed(node, x.dims[axis], "the transformed axis")
    if length is not None:
        n = whole(b, node, length, "the transform's length")
    else:
        n = 2 * (have - 1) if inverse and onesided else have
    _check_parts(node, parts, n, inverse=inverse, onesided=onesided)
    if inverse and onesided:
        matrix = _real_inverse_matrix(have, n)
    else:
        matrix = _matrix(have, n, parts, inverse=inverse, onesided=onesided)
    return transform(b, node, x, b.constant(matrix.astype(wide_type(x.dtype).numpy)), axis)


def _check_parts(node: Call, parts: int, n: int, *, inverse: bool, onesided: bool) -> None:
    if n < 1 or n * n * 4 > MATRIX_ELEMENTS:
        node.refuse("a transform of this length", ("length", n), ("longest", 2048))
    if parts not in (1, 2) or (onesided and not inverse and parts != 1):
        node.invalid("a one-sided transform is of real numbers", ("parts", parts))


def transform(b: Builder, node: Call, x: Value, matrix: Value, axis: int) -> Value:
    """Multiply the numbers along ``axis`` by ``matrix [n, c, k, d]``, ``c`` and ``d`` parts."""
    n, c, k, d = matrix.dims
    rest = [i for i in range(x.rank - 1) if i != axis]
    wide = b.transpose(widened(b, x), (*rest, axis, x.rank - 1))
    lead = wide.dims[:-2]
    flat = b.reshape(matrix, [n * c, k * d])
    made = b.reshape(matmul(b, node, b.reshape(wide, [*lead, n * c]), flat), [*lead, k, d])
    back = [*range(axis), x.rank - 2, *range(axis, x.rank - 2), x.rank - 1]
    return b.convert(b.transpose(made, back), x.dtype)


def _open_matrix(b: Builder, x: Value, axis: int, *, inverse: bool, onesided: bool) -> Value:
    """What :func:`_matrix` gives, for a length that only the run knows; computed there."""
    n, dtype = x.dims[axis], wide_type(x.dtype)
    count = n // 2 + 1 if onesided else n
    steps = b.map("mul", b.iota([n, 1], 0), b.iota([1, count], 1))
    whole_turns = b.convert(b.map("floor_mod", steps, b.size(n)), dtype)
    turns = b.map("div", b.map("mul", whole_turns, 2 * math.pi), b.size(n, dtype))
    scale = b.size(n if inverse else 1, dtype)
    real, sine = (b.map("div", b.map(fn, turns), scale) for fn in ("cos", "sin"))
    imaginary = sine if inverse else b.map("neg", sine)
    rows = [(real, imaginary), (b.map("neg", imaginary), real)][: int(x.dims[-1])]
    cells = [[b.reshape(v, [n, 1, count, 1]) for v in row] for row in rows]
    return b.concat([b.concat(row, 3) for row in cells], 1)


def _matrix(have: int, n: int, parts: int, *, inverse: bool, onesided: bool) -> Array:
    """``[have, parts, k, 2]``; what is beyond the length is cut, what lacks is zero."""
    count = n // 2 + 1 if onesided else n
    turns = np.outer(np.arange(have), np.arange(count)) % n * (2 * math.pi / n)
    real, imaginary = np.cos(turns), np.sin(turns) * (1 if inverse else -1)
    both = np.stack([np.stack([real, imaginary], -1), np.stack([-imaginary, real], -1)], 1)
    both[n:] = 0
    return both[:, :parts] / (n if inverse else 1)


def _real_inverse_matrix(have: int, n: int) -> Array:
    """``[have, 2, n, 1]``: half a spectrum to real numbers; the other half is its mirror."""
    turns = np.outer(np.arange(have), np.arange(n)) % n * (2 * math.pi / n)
    weight = np.full((have, 1), 2.0)
    weight[0] = 1
    if n % 2 == 0 and n // 2 < have:
        weight[n // 2] = 1
    weight[n // 2 + 1 :] = 0
    return (np.stack([np.cos(turns), -np.sin(turns)], 1) * weight[:, None] / n)[..., None]


@rule("STFT", since=17)
def stft(
    b: Builder,
    node: Call,
    x: Value,
    step: Value,
    window: Value | None = None,
    length: Value | None = None,
) -> Value:
    """Transforms of windows ``step`` apart: ``[B, L, 1 or 2]`` to ``[B, frames, bins, 2]``."""
    need_rank(node, "the signal", x, 3)
    hop = whole(b, node, step, "the frame step")
    if length is not None:
        size = whole(b, node, length, "the frame length")
    elif window is not None:
        need_rank(node, "the window", window, 1)
        size = fixed(node, window.dims[0], "the window")
    else:
        node.invalid("give a window or a frame length")
    parts = fixed(node, x.dims[-1], "the axis of real and imaginary parts")
    onesided = node.flag("onesided", True)
    _check_parts(node, parts, size, inverse=False, onesided=onesided)
    if hop < 1:
        node.invalid("the frame step is not positive", ("frame_step", hop))
    frames = (x.dims[1] - size) // hop + 1
    first = b.map("mul", b.iota([frames, 1], 0), hop)
    places = b.map("add", first, b.iota([1, size], 1))
    rows = b.make(GatherOp, x, places, axis=1)
    if window is not None:
        rows = b.map("mul", rows, b.reshape(_centred(b, node, window, size, x), [size, 1]))
    matrix = _matrix(size, size, parts, inverse=False, onesided=onesided)
    return transform(b, node, rows, b.constant(matrix.astype(wide_type(x.dtype).numpy)), 2)


def _centred(b: Builder, node: Call, window: Value, size: int, x: Value) -> Value:
    """A window shorter than the frame stands in its middle, between zeros."""
    have = fixed(node, window.dims[0], "the window")
    if have > size:
        node.invalid("the window is longer than the frame", ("window", have), ("frame", size))
    low = (size - have) // 2
    window = b.convert(window, x.dtype)
    if have == size:
        return window
    return b.make(PadOp, window, None, low=(as_expr(low),), high=(as_expr(size - have - low),))


@rule("HannWindow", since=17)
def hann_window(b: Builder, node: Call, size: Value) -> Value:
    """``0.5 - 0.5 cos(2 pi n / N)``."""
    return _window(b, node, size, (0.5, -0.5))


@rule("HammingWindow", since=17)
def hamming_window(b: Builder, node: Call, size: Value) -> Value:
    """``25/46 - 21/46 cos(2 pi n / N)``."""
    return _window(b, node, size, (25 / 46, -21 / 46))


@rule("BlackmanWindow", since=17)
def blackman_window(b: Builder, node: Call, size: Value) -> Value:
    """``0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)``."""
    return _window(b, node, size, (0.42, -0.5, 0.08))


def _window(b: Builder, node: Call, size: Value, terms: tuple[float, ...]) -> Value:
    """A sum of cosines; ``N`` is the size of a periodic window, one less of a symmetric one."""
    need_rank(node, "the size", size, 0)
    (count,) = b.dims_from(b.reshape(size, [1]))
    # Known windows are computed here and may as well be exact; others run on the device.
    dtype = f64 if count.constant is not None else f32
    period = count if node.flag("periodic", True) else count - 1
    turn = b.map("div", b.iota([count], 0, dtype), b.size(period, dtype))
    total = b.filled([count], terms[0], dtype)
    for i, factor in enumerate(terms[1:], 1):
        wave = b.map("cos", b.map("mul", turn, 2 * math.pi * i))
        total = b.map("add", total, b.map("mul", wave, factor))
    return b.convert(total, named_type(node, "output_datatype", f32))


@rule("MelWeightMatrix", since=17)
def mel_weight_matrix(
    b: Builder, node: Call, bins: Value, length: Value, rate: Value, low: Value, high: Value
) -> Value:
    """Triangular filters, evenly spaced on the mel scale: ``[length // 2 + 1, bins]``."""
    count, n, hertz = (whole(b, node, v, "a size") for v in (bins, length, rate))
    edges = [float(single(b, node, v, "an edge frequency")) for v in (low, high)]
    if min(count, n, hertz) < 1 or count * (n // 2 + 1) > MATRIX_ELEMENTS:
        node.invalid("sizes out of range", ("bins", count), ("length", n), ("rate", hertz))
    lowest, highest = (2595 * math.log10(1 + e / 700) for e in edges)
    mels = lowest + np.arange(count + 2) * ((highest - lowest) / (count + 2))
    corners = np.floor((n + 1) * (700 * (10 ** (mels / 2595) - 1)) / hertz)
    made = _triangles(np.arange(n // 2 + 1)[:, None], corners[:-2], corners[1:-1], corners[2:])
    return b.convert(b.constant(made), named_type(node, "output_datatype", f32))


def _triangles(row: Array, left: Array, centre: Array, right: Array) -> Array:
    """Rising from ``left`` to ``centre``, falling to ``right``; 1 at a centre without a slope."""
    rise = np.where(centre > left, (row - left) / np.maximum(centre - left, 1), row == centre)
    fall = (right - row) / np.maximum(right - centre, 1)
    rising = (row >= left) & (row <= centre)
    falling = (row >= centre) & (row < right)
    return np.where(falling, fall, np.where(rising, rise, 0.0))

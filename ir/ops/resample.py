"""Operators that read a tensor between its elements: resize, grid sample, region align."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def

from tapeout.ir.assumptions import may_equal
from tapeout.ir.dtypes import dtype_of, i64
from tapeout.ir.expr import Expr, as_expr, product
from tapeout.ir.numeric import saturated, wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.sampling import (
    along,
    cubic,
    filter_matrix,
    rounded,
    sample,
    source_places,
    triangle,
)
from tapeout.ir.shapes import (
    check_dims,
    check_filled,
    check_float,
    check_kind,
    check_rank,
    check_same_dtype,
    misfit,
)
from tapeout.ir.types import (
    ExprsAttr,
    FlagAttr,
    FloatAttr,
    FloatsAttr,
    IntAttr,
    IntsAttr,
    Spec,
    StrAttr,
    TensorType,
)

INTERPOLATIONS = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@irdl_op_definition
class ResizeOp(NNOp):
    """``x`` sampled anew to the shape ``sizes``, which is given in full.

    ``scales`` (one float per axis; result over source size) drive the coordinates; when absent
    they are the ratio of the sizes. ``mode``, ``coordinate`` and ``nearest`` (rounding) are
    ONNX's Resize-19 under its own names. ``roi`` (all starts, then all ends, normalised) goes
    with ``tf_crop_and_resize``, where places outside ``x`` give ``extrapolation``. ``cubic_a``
    is the cubic's coefficient; ``exclude_outside`` gives taps outside no weight; ``antialias``
    widens the filter when shrinking. Integers are computed in f32, rounded toward zero and
    saturated.
    Errors: E0209, E0210.
    """

    name = "nn.resize"
    x = operand_def(TensorType)
    sizes = prop_def(ExprsAttr)
    scales = opt_prop_def(FloatsAttr)
    roi = opt_prop_def(FloatsAttr)
    mode = prop_def(StrAttr, StrAttr("nearest"))
    coordinate = prop_def(StrAttr, StrAttr("half_pixel"))
    nearest = prop_def(StrAttr, StrAttr("round_prefer_floor"))
    cubic_a = prop_def(FloatAttr, FloatAttr(-0.75))
    exclude_outside = prop_def(FlagAttr, FlagAttr(False))
    antialias = prop_def(FlagAttr, FlagAttr(False))
    extrapolation = prop_def(FloatAttr, FloatAttr(0.0))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec,
        *,
        sizes: tuple[Expr, ...],
        scales: tuple[float, ...] | None,
        roi: tuple[float, ...] | None,
        mode: str,
        coordinate: str,
        nearest: str,
        **_: object,
    ) -> Spec:
        """``sizes``."""
        assert mode in INTERPOLATIONS, f"no interpolation {mode!r}"
        assert coordinate in COORDINATES, f"no coordinate mode {coordinate!r}"
        assert nearest in ROUNDINGS, f"no nearest mode {nearest!r}"
        assert scales is None or len(scales) == x.rank, "one scale per axis"
        assert roi is None or len(roi) == 2 * x.rank, "a start and an end per axis"
        assert roi is not None or coordinate != "tf_crop_and_resize", "a crop needs its region"
        check_kind("resize", ("float", "int", "uint"), x)
        if len(sizes) != x.rank:
            raise misfit("resize", ("x", x.dims), ("sizes", sizes))
        resized = [d for d, n in zip(x.dims, sizes, strict=True) if d != n]
        check_filled("resize", "x", resized)
        return x.with_dims(sizes)

    @staticmethod
    def reference(
        x: Array,
        *,
        sizes: tuple[int, ...],
        scales: tuple[float, ...] | None,
        roi: tuple[float, ...] | None,
        mode: str,
        coordinate: str,
        nearest: str,
        cubic_a: float,
        exclude_outside: bool,
        antialias: bool,
        extrapolation: float,
    ) -> Array:
        """Axis by axis: pick elements, or multiply by a matrix of weights."""
        y = x if mode == "nearest" else wide(x)
        if mode != "nearest" and not dtype_of(x).is_float:
            y = x.astype(np.float32)
        outside = np.zeros([1] * x.ndim, np.bool_)
        for axis, (count, size) in enumerate(zip(sizes, x.shape, strict=True)):
            scale = count / size if scales is None else scales[axis]
            if count == size and scale == 1 and roi is None:
                continue
            crop = (0.0, 1.0) if roi is None else (roi[axis], roi[x.ndim + axis])
            places = source_places(coordinate, count, size, scale, crop)
            if coordinate == "tf_crop_and_resize":
                beyond = (places < 0) | (places > size - 1)
                outside = outside | np.moveaxis(beyond.reshape([-1] + [1] * (x.ndim - 1)), 0, axis)
            if mode == "nearest":
                y = np.take(y, np.clip(rounded(places, nearest), 0, size - 1), axis)
                continue
            shrink = min(scale, 1.0) if antialias else 1.0
            kernel, reach = _kernel(mode, cubic_a)
            matrix = filter_matrix(places, size, kernel, reach, shrink, exclude_outside)
            y = along(y, matrix, axis)
        y = np.where(outside, np.asarray(extrapolation).astype(y.dtype), y)
        return y.astype(x.dtype) if dtype_of(x).is_float else saturated(y, x.dtype)

    @staticmethod
    def cost(x: Spec, *, sizes: tuple[Expr, ...], mode: str, **_: object) -> Expr:
        """A multiply and an add per tap: 1 or 4 per resized axis, none for nearest."""
        taps = {"nearest": 0, "linear": 2, "cubic": 4}[mode]
        resized = sum(a != b for a, b in zip(x.dims, sizes, strict=True))
        return product(sizes) * (2 * taps**resized if taps else 0)


@irdl_op_definition
class GridSampleOp(NNOp):
    """``y[n, c, *o] = x[n, c, grid[n, *o]]``, read between the elements.

    ``x [N, C, *S]``, ``grid [N, *O, len(S)]`` with places in ``[-1, 1]``, the last axis of
    ``x`` first. ``mode``: nearest (ties to even), linear, cubic (a = -0.75). ``padding`` outside:
    zeros, border or reflection. With ``align_corners`` -1 and 1 are the centres of the outermost
    elements, else their outer edges. Errors: E0203, E0209, E0210. Source: ONNX GridSample-20.
    """

    name = "nn.grid_sample"
    x = operand_def(TensorType)
    grid = operand_def(TensorType)
    mode = prop_def(StrAttr, StrAttr("linear"))
    padding = prop_def(StrAttr, StrAttr("zeros"))
    align_corners = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)

    @staticmethod
    def infer(x: Spec, grid: Spec, *, mode: str, padding: str, align_corners: bool) -> Spec:
        """``[N, C, *O]``."""
        assert mode in INTERPOLATIONS, f"no interpolation {mode!r}"
        assert padding in ("zeros", "border", "reflection"), f"no padding {padding!r}"
        check_float("grid_sample", x, grid)
        spatial = as_expr(x.rank - 2)
        batches_fit = x.rank > 2 and grid.rank == x.rank and may_equal(*_batches(x, grid))
        if not batches_fit or not may_equal(grid.dims[-1], spatial):
            raise misfit("grid_sample", ("x", x.dims), ("grid", grid.dims))
        check_filled("grid_sample", "x", x.dims[2:])
        return x.with_dims((*x.dims[:2], *grid.dims[1:-1]))

    @staticmethod
    def reference(x: Array, grid: Array, *, mode: str, padding: str, align_corners: bool) -> Array:
        """Sample each image by itself."""
        y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), wide(x).dtype)
        for n, image in enumerate(wide(x)):
            # The grid names the last axis first.
            unit = [wide(grid)[n, ..., -1 - i] for i in range(x.ndim - 2)]
            places = [_place(u, s, align_corners) for u, s in zip(unit, x.shape[2:], strict=True)]
            y[n] = sample(image, places, mode, padding, align_corners)
        return y.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, grid: Spec, *, mode: str, **_: object) -> Expr:
        """A multiply and an add per tap and result element."""
        taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode] ** (x.rank - 2)
        return product((*x.dims[:2], *grid.dims[1:-1])) * (2 * taps)


@irdl_op_definition
class RoiAlignOp(NNOp):
    """Each region of interest, cut into ``sizes`` (height, width) bins and sampled bilinearly.

    ``x [N, C, H, W]``, ``rois [R, 4]`` as ``x1, y1, x2, y2`` times ``scale``, ``batch [R]``
    (i64) says of which image. ``mode`` combines the samples of a bin: ``avg``, or ``max``, the
    largest of their weighted corners, as ONNX has it. ``sampling_ratio`` samples per bin and
    axis, 0 for ``ceil(size of the bin)``. ``half_pixel`` shifts regions by -0.5.
    Errors: E0203, E0209, E0210.
    Source: He et al. 2017, arXiv:1703.06870; ONNX RoiAlign-16.
    """

    name = "nn.roi_align"
    x = operand_def(TensorType)
    rois = operand_def(TensorType)
    batch = operand_def(TensorType)
    mode = prop_def(StrAttr, StrAttr("avg"))
    sizes = prop_def(IntsAttr)
    sampling_ratio = prop_def(IntAttr, IntAttr(0))
    scale = prop_def(FloatAttr, FloatAttr(1.0))
    half_pixel = prop_def(FlagAttr, FlagAttr(True))
    y = result_def(TensorType)

    @staticmethod
    def infer(
        x: Spec,
        rois: Spec,
        batch: Spec,
        *,
        mode: str,
        sizes: tuple[int, ...],
        sampling_ratio: int,
        scale: float,
        half_pixel: bool,
    ) -> Spec:
        """``[R, C, *sizes]``."""
        assert mode in ("avg", "max"), f"no roi_align mode {mode!r}"
        assert len(sizes) == 2, "sizes are height and width"
        assert batch.dtype is i64, "batch is i64"
        check_float("roi_align", x)
        check_same_dtype("roi_align", x, rois)
        check_rank("roi_align", "x", x, 4)
        check_rank("roi_align", "batch", batch, 1)
        check_dims("roi_align", "rois", rois.dims, (batch.dims[0], as_expr(4)))
        check_filled("roi_align", "x", (x.dims[0], *x.dims[2:]))
        return x.with_dims((batch.dims[0], x.dims[1], *sizes))

    @staticmethod
    def reference(
        x: Array,
        rois: Array,
        batch: Array,
        *,
        mode: str,
        sizes: tuple[int, ...],
        sampling_ratio: int,
        scale: float,
        half_pixel: bool,
    ) -> Array:
        """Region by region: a line of samples per axis, then combine those of each bin."""
        images, regions = wide(x), wide(rois)
        y = np.zeros((len(rois), x.shape[1], *sizes), images.dtype)
        for index, (x1, y1, x2, y2) in enumerate(regions * scale - (0.5 if half_pixel else 0.0)):
            sides = ((y1, y2, sizes[0], x.shape[2]), (x1, x2, sizes[1], x.shape[3]))
            rows, columns = (_bin_taps(*side, sampling_ratio, half_pixel) for side in sides)
            y[index] = _pooled_bins(images[batch[index]], rows, columns, mode)
        return y.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, rois: Spec, batch: Spec, *, sizes: tuple[int, ...], **attrs: Any) -> Expr:
        """8 flops per sample, at 4 samples per bin where the region decides their number."""
        samples = attrs["sampling_ratio"] ** 2 or 4
        return batch.size * x.dims[1] * (sizes[0] * sizes[1] * samples * 8)


def _batches(x: Spec, grid: Spec) -> tuple[Expr, Expr]:
    return x.dims[0], grid.dims[0]


def _kernel(mode: str, cubic_a: float) -> tuple[Callable[[Array], Array], int]:
    return (triangle, 1) if mode == "linear" else (partial(cubic, a=cubic_a), 2)


def _place(unit: Array, size: int, align_corners: bool) -> Array:
    """The place in elements of a coordinate in ``[-1, 1]``."""
    return (unit + 1) / 2 * (size - 1) if align_corners else ((unit + 1) * size - 1) / 2


def _bin_taps(
    low: float, high: float, count: int, size: int, ratio: int, half_pixel: bool
) -> tuple[Array, Array, Array]:
    """Elements ``[count, samples, 2]``, their weights, and which samples lie inside."""
    extent = high - low if half_pixel else max(high - low, 1.0)
    step = extent / count
    samples = ratio if ratio > 0 else int(np.ceil(step))
    bins = np.arange(count)[:, None]
    places = low + bins * step + (np.arange(samples) + 0.5) * step / max(samples, 1)
    inside = (places >= -1) & (places <= size)
    places = np.clip(places, 0, size - 1)
    first = np.minimum(places.astype(np.int64), max(size - 2, 0))
    part = places - first
    elements = np.stack([first, np.minimum(first + 1, size - 1)], axis=-1)
    return elements, np.stack([1 - part, part], axis=-1), inside


def _pooled_bins(
    image: Array,
    rows: tuple[Array, Array, Array],
    columns: tuple[Array, Array, Array],
    mode: str,
) -> Array:
    """``[C, bins high, bins wide]`` from taps along both axes."""
    (at_y, w_y, in_y), (at_x, w_x, in_x) = rows, columns
    weights = np.einsum("hys,wxt->hwyxst", w_y * in_y[..., None], w_x * in_x[..., None])
    corners = image[:, at_y[:, None, :, None, :, None], at_x[None, :, None, :, None, :]] * weights
    corners = corners.astype(image.dtype)
    samples = corners.shape[3] * corners.shape[4]
    if mode == "avg":
        return corners.sum(axis=(3, 4, 5, 6)) / max(samples, 1)
    return corners.max(axis=(3, 4, 5, 6)) if samples else corners.sum(axis=(3, 4, 5, 6))

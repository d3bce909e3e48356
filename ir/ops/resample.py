"""Operators that read a tensor between its elements: resize, grid sample, region align."""

from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.op import NNOp
from tapeout.ir.shapes import (
    check_dims,
    check_float,
    check_kind,
    check_rank,
    check_same_dtype,
    misfit,
    never_equal,
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
    widens the filter when shrinking. Integers are computed in f32 and rounded toward zero.
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
        return x.with_dims(sizes)


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
        batches_fit = x.rank > 2 and grid.rank == x.rank and not never_equal(*_batches(x, grid))
        if not batches_fit or never_equal(grid.dims[-1], spatial):
            raise misfit("grid_sample", ("x", x.dims), ("grid", grid.dims))
        return x.with_dims((*x.dims[:2], *grid.dims[1:-1]))


@irdl_op_definition
class RoiAlignOp(NNOp):
    """Each region of interest, cut into ``sizes`` (height, width) bins and sampled bilinearly.

    ``x [N, C, H, W]``, ``rois [R, 4]`` as ``x1, y1, x2, y2`` times ``scale``, ``batch [R]``
    (i64) says of which image. ``mode`` combines the samples of a bin: ``avg`` or ``max``.
    ``sampling_ratio`` samples per bin and axis, 0 for ``ceil(size of the bin)``. ``half_pixel``
    shifts regions by -0.5. Errors: E0203, E0209, E0210.
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
        return x.with_dims((batch.dims[0], x.dims[1], *sizes))


def _batches(x: Spec, grid: Spec) -> tuple[Expr, Expr]:
    return x.dims[0], grid.dims[0]

"""Resize and its ancestors, grid sampling and affine grids."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import fixed, need_rank, one_of
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.resample import (
    COORDINATES,
    INTERPOLATIONS,
    ROUNDINGS,
    GridSampleOp,
    ResizeOp,
)
from tapeout.ir.shapes import check_axis

LONGEST_AXIS = 1 << 24
POLICIES = ("stretch", "not_larger", "not_smaller")


@rule("Upsample")
def upsample_attribute(b: Builder, node: Call, x: Value) -> Value:
    """Enlarge by the attribute ``scales`` (up to opset 8)."""
    return _asymmetric(b, node, x, list(node.reals("scales")))


@rule("Upsample", since=9)
@rule("Resize", since=10)
def upsample(b: Builder, node: Call, x: Value, scales: Value) -> Value:
    """Resize by ``scales``, the origin kept (Upsample-9, Resize-10)."""
    return _asymmetric(b, node, x, _floats(b, node, scales, "scales"))


def _asymmetric(b: Builder, node: Call, x: Value, scales: list[float]) -> Value:
    mode = one_of(node, "mode", "nearest", ("nearest", "linear", "bilinear"))
    _check_scales(node, x, scales)
    return b.make(
        ResizeOp,
        x,
        sizes=_scaled(x.dims, scales),
        scales=tuple(scales),
        mode="nearest" if mode == "nearest" else "linear",
        coordinate="asymmetric",
        nearest="floor",
    )


@rule("Resize", since=11)
def resize(
    b: Builder,
    node: Call,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> Value:
    """Sample ``x`` anew to ``sizes``, or to its sizes times ``scales``."""
    scales, sizes = _unless_empty(node, "scales", scales), _unless_empty(node, "sizes", sizes)
    if (scales is None) == (sizes is None):
        node.invalid("give either scales or sizes")
    axes = _axes(node, x)
    coordinate = one_of(
        node, "coordinate_transformation_mode", "half_pixel", (*COORDINATES, "tf_half_pixel_for_nn")
    )
    if any(d == 0 for d in x.dims):
        node.invalid("an axis without elements cannot be resized", ("input", x.dims))
    if coordinate == "tf_half_pixel_for_nn":
        node.refuse("coordinate mode 'tf_half_pixel_for_nn'", fix="export with opset 13 or later")
    if scales is not None:
        per_axis = _spread(_floats(b, node, scales, "scales"), axes, [1.0] * x.rank, node)
        _check_scales(node, x, per_axis)
        target, factors = _scaled(x.dims, per_axis), tuple(per_axis)
    else:
        assert sizes is not None, "one of the two is given"
        target, factors = _from_sizes(b, node, x, sizes, axes)
    region = _region(b, node, roi, axes, x.rank) if coordinate == "tf_crop_and_resize" else None
    return b.make(
        ResizeOp,
        x,
        sizes=target,
        scales=factors,
        roi=region,
        mode=one_of(node, "mode", "nearest", INTERPOLATIONS),
        coordinate=coordinate,
        nearest=one_of(node, "nearest_mode", "round_prefer_floor", ROUNDINGS),
        cubic_a=node.real("cubic_coeff_a", -0.75),
        exclude_outside=node.flag("exclude_outside"),
        antialias=node.flag("antialias"),
        extrapolation=node.real("extrapolation_value"),
    )


def _unless_empty(node: Call, what: str, x: Value | None) -> Value | None:
    if x is not None:
        need_rank(node, what, x, 1)
    return None if x is None or x.dims[0] == 0 else x


def _axes(node: Call, x: Value) -> list[int]:
    """The axes that scales, sizes and regions are about."""
    given = node.integers("axes") or range(x.rank)
    axes = [check_axis(a, x.rank, "Resize") for a in given]
    if len(set(axes)) != len(axes):
        node.invalid("attribute 'axes' names an axis twice", ("axes", axes))
    return axes


def _floats(b: Builder, node: Call, x: Value, what: str) -> list[float]:
    return [float(v) for v in b.array(node, x, what).reshape(-1)]


def _spread(values: Sequence[float], axes: list[int], rest: list[float], node: Call) -> list[float]:
    """Values of some axes at their places among those of all."""
    if len(values) != len(axes):
        node.invalid("one value for each axis is needed", ("axes", axes), ("values", list(values)))
    for axis, value in zip(axes, values, strict=True):
        rest[axis] = value
    return rest


def _check_scales(node: Call, x: Value, scales: Sequence[float]) -> None:
    if len(scales) != x.rank or not all(math.isfinite(s) and s > 0 for s in scales):
        node.invalid(
            "scales are positive numbers, one for each axis",
            ("scales", list(scales)),
            ("rank", x.rank),
        )


def _scaled(dims: Sequence[Expr], scales: Sequence[float]) -> tuple[Expr, ...]:
    """``floor(dim * scale)``, the product rounded to f32 as ONNX's shape inference does.

    For an open size the scale is taken as the simple fraction that it stands for: 0.7 of 10 is 7.
    """
    return tuple(map(_scaled_size, dims, scales))


def _scaled_size(dim: Expr, scale: float) -> Expr:
    if dim.constant is not None:
        return as_expr(math.floor(np.float32(dim.constant) * np.float32(scale)))
    ratio = Fraction(scale).limit_denominator(4096)
    return dim * ratio.numerator // ratio.denominator


def _from_sizes(
    b: Builder, node: Call, x: Value, sizes: Value, axes: list[int]
) -> tuple[tuple[Expr, ...], tuple[float, ...] | None]:
    """Sizes of all axes, and the common scale when the aspect ratio is kept."""
    if sizes.dims[0] != len(axes):
        node.invalid("one size for each axis is needed", ("axes", axes), ("sizes", sizes.dims))
    wanted = b.dims_from(sizes)
    policy = one_of(node, "keep_aspect_ratio_policy", "stretch", POLICIES)
    target = list(x.dims)
    if policy == "stretch":
        for axis, size in zip(axes, wanted, strict=True):
            target[axis] = size
        return tuple(target), None
    have = [fixed(node, x.dims[a], "an axis whose aspect ratio is kept") for a in axes]
    ratios = [v / h for v, h in zip(b.ints(node, sizes, "sizes"), have, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    for axis, size in zip(axes, have, strict=True):
        target[axis] = as_expr(math.floor(scale * size + 0.5))
    return tuple(target), tuple(scale if i in axes else 1.0 for i in range(x.rank))


def _region(
    b: Builder, node: Call, roi: Value | None, axes: list[int], rank: int
) -> tuple[float, ...]:
    """The region of all axes: starts, then ends; axes not named are taken whole."""
    if roi is None:
        node.invalid("a crop needs its region, the input 'roi'")
    values = _floats(b, node, roi, "roi")
    half = len(values) // 2
    starts = _spread(values[:half], axes, [0.0] * rank, node)
    return (*starts, *_spread(values[half:], axes, [1.0] * rank, node))


@rule("GridSample", since=16)
def grid_sample(b: Builder, node: Call, x: Value, grid: Value) -> Value:
    """``x`` read at the places of ``grid``."""
    older = {"bilinear": "linear", "bicubic": "cubic"}
    mode = one_of(node, "mode", "linear", (*INTERPOLATIONS, *older))
    return b.make(
        GridSampleOp,
        x,
        grid,
        mode=older.get(mode, mode),
        padding=one_of(node, "padding_mode", "zeros", ("zeros", "border", "reflection")),
        align_corners=node.flag("align_corners"),
    )


@rule("AffineGrid", since=20)
def affine_grid(b: Builder, node: Call, theta: Value, size: Value) -> Value:
    """Places ``theta @ (x, y[, z], 1)`` for each output element, in ``[-1, 1]``."""
    spatial = b.ints(node, size, "the output's size")[2:]
    n = len(spatial)
    need_rank(node, "the transformation", theta, 3)
    if n not in (2, 3) or not all(0 < s <= LONGEST_AXIS for s in spatial):
        node.invalid("the output has two or three spatial axes", ("sizes", spatial))
    made = _column(b, theta, n, n)
    for axis, count in enumerate(spatial):
        line = _centres(count, aligned=node.flag("align_corners")).astype(theta.dtype.numpy)
        dims = [count if i == axis else 1 for i in range(n)]
        places = b.reshape(b.constant(line), [1, *dims, 1])
        made = b.map("add", made, b.map("mul", places, _column(b, theta, n - 1 - axis, n)))
    return made


def _column(b: Builder, theta: Value, index: int, n: int) -> Value:
    """One column of each transformation ``[N, n, n + 1]``, beside ``n`` spatial axes."""
    column = b.slice_axis(theta, 2, index, 1)
    return b.reshape(column, [theta.dims[0], *[1] * n, n])


def _centres(size: int, *, aligned: bool) -> np.ndarray:
    if aligned:
        return np.linspace(-1.0, 1.0, size)
    return (2 * np.arange(size) + 1) / size - 1

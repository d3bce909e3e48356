"""Reading arrays between their elements, in numpy: what resize and its kin mean.

Each axis is read by itself: a *tap* is an element with a weight, and a place between elements
is a few taps. Kernels are functions of the distance in elements.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def triangle(distance: Array) -> Array:
    """The linear interpolation kernel."""
    return np.clip(1 - np.abs(distance), 0, None)


def cubic(distance: Array, a: float) -> Array:
    """The cubic convolution kernel with coefficient ``a``. Source: Keys 1981."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def source_places(
    coordinate: str, count: int, size: int, scale: float, roi: Sequence[float]
) -> Array:
    """Where each of ``count`` results lies in a line of ``size`` elements.

    ``coordinate`` is a mode of ONNX's Resize; ``roi`` is the start and end of a crop.
    """
    x = np.arange(count, dtype=np.float64)
    length = scale * size
    if coordinate == "align_corners":
        return x * (size - 1) / (length - 1) if length != 1 else np.zeros(count)
    if coordinate == "asymmetric":
        return x / scale
    if coordinate == "tf_crop_and_resize":
        start, end = roi
        if length == 1:
            return np.full(count, (start + end) * (size - 1) / 2)
        return x * (end - start) * (size - 1) / (length - 1) + start * (size - 1)
    if coordinate == "pytorch_half_pixel" and length == 1:
        return np.full(count, -0.5)
    shift = size / 2 * (1 - count / length) if coordinate == "half_pixel_symmetric" else 0.0
    return shift + (x + 0.5) / scale - 0.5


def rounded(places: Array, nearest: str) -> Array:
    """The element nearest to each place, by a rounding of ONNX's Resize."""
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return rules[nearest](places).astype(np.int64)


def filter_matrix(
    places: Array,
    size: int,
    kernel: Callable[[Array], Array],
    reach: int,
    shrink: float,
    exclude_outside: bool,
) -> Array:
    """The matrix ``[len(places), size]`` that reads a line at ``places``.

    ``kernel`` is zero from distance ``reach`` on and is stretched by ``1 / shrink``. Taps
    outside read the outermost element, or with ``exclude_outside`` have no weight.
    """
    span = int(np.ceil(reach / shrink))
    taps = np.floor(places).astype(np.int64)[:, None] + np.arange(-span, span + 2)
    weights = kernel((taps - places[:, None]) * shrink)
    if exclude_outside:
        weights = np.where((taps >= 0) & (taps < size), weights, 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(places), size))
    np.add.at(matrix, (np.arange(len(places))[:, None], np.clip(taps, 0, size - 1)), weights)
    return matrix


def along(x: Array, matrix: Array, axis: int) -> Array:
    """Multiply each line of ``x`` along ``axis`` by ``matrix [result, source]``."""
    return np.moveaxis(np.tensordot(x, matrix.astype(x.dtype), (axis, 1)), -1, axis)


def sample(
    x: Array, places: Sequence[Array], mode: str, padding: str, align_corners: bool
) -> Array:
    """``x [C, *S]`` read at ``places`` (one array ``[*O]`` per axis of ``S``); ``[C, *O]``."""
    offsets = {"nearest": range(1), "linear": range(2), "cubic": range(-1, 3)}[mode]
    lows: list[Array] = [np.rint(p) if mode == "nearest" else np.floor(p) for p in places]
    total = np.zeros((x.shape[0], *places[0].shape), x.dtype)
    for tap in np.ndindex(*([len(offsets)] * len(places))):
        weight: Array = np.ones(places[0].shape, x.dtype)
        index: list[Array] = []
        for axis, (low, place) in enumerate(zip(lows, places, strict=True)):
            at = low + offsets[int(tap[axis])]
            weight = weight * _tap_weight(mode, at - place)
            element, inside = _element(at, x.shape[1 + axis], padding, align_corners)
            weight = weight * inside
            index.append(element)
        total += weight * x[(slice(None), *index)]
    return total


def _tap_weight(mode: str, distance: Array) -> Array:
    if mode == "nearest":
        return np.ones_like(distance)
    return triangle(distance) if mode == "linear" else cubic(distance, -0.75)


def _element(at: Array, size: int, padding: str, align_corners: bool) -> tuple[Array, Array]:
    """The element for each (maybe outside) position, and whether it counts."""
    inside = np.ones_like(at)
    if padding == "zeros":
        inside = ((at >= 0) & (at < size)).astype(at.dtype)
    elif padding == "reflection":
        at = _reflected(at, size, align_corners)
    return np.clip(at, 0, size - 1).astype(np.int64), inside


def _reflected(at: Array, size: int, align_corners: bool) -> Array:
    """Mirror at the centres of the outermost elements, or else at their outer edges."""
    if align_corners:
        period = max(1, 2 * (size - 1))
        folded = np.mod(at, period)
        return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(at)
    folded = np.mod(at, 2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)

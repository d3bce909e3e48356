"""Each weight to the nearest code."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeout.passes.quantize.checks import finite_matrix
from tapeout.passes.quantize.scales import fit
from tapeout.passes.quantize.weights import (
    QuantisedWeight,
    WeightFormat,
    encode,
    grouped,
    per_weight,
)

Array = np.ndarray[Any, Any]


def round_to_nearest(
    weight: Array,
    format: WeightFormat,
    *,
    name: str = "weight",
    search: bool = False,
    importance: Array | None = None,
) -> QuantisedWeight:
    """Quantise ``weight [N, K]`` (output, input), each number by itself.

    ``search`` takes the scales of least squared error instead of those that reach the extremes.
    ``importance [K]``, at least 0, weighs those errors: the mean square of each input, say.
    Errors: E0701 for NaN and infinities, E0702 where the scale type cannot hold a scale.
    """
    matrix = finite_matrix(weight, name)
    scales, zeros = fit(
        grouped(matrix, format),
        importances(importance, matrix.shape, format),
        format,
        name,
        search,
    )
    spread = [None if s is None else per_weight(s, matrix.shape, format) for s in (scales, zeros)]
    assert spread[0] is not None, "a format has scales"
    return QuantisedWeight(format, encode(matrix, spread[0], spread[1], format), scales, zeros)


def importances(given: Array | None, shape: tuple[int, int], format: WeightFormat) -> Array:
    """``given [K]`` or ones, grouped like the weights ``[G, W]``, with 0 where there are none."""
    n, k = shape
    row = np.ones(k, np.float32) if given is None else given.astype(np.float32)
    assert row.shape == (k,), f"{row.shape[0]} importances for {k} inputs"
    if format.group == "tensor":
        return np.broadcast_to(row, (n, k)).reshape(1, -1)
    return grouped(row[None], format)[0]

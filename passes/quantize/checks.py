"""What a weight has to be before it is compressed."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]


def finite_matrix(weight: Array, name: str) -> Array:
    """``weight [N, K]`` of any float type as f32; E0701 where a value is not finite in f32."""
    assert weight.ndim == 2, f"{name}: a weight is compressed as a matrix, not {weight.shape}"
    with np.errstate(over="ignore"):
        matrix = weight.astype(np.float32, copy=False)
    # A sum is finite only if every term is; most weights are done with after this one read.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(matrix.sum(dtype=np.float64)):
            return matrix
    wrong = np.argwhere(~np.isfinite(matrix))
    row, column = (int(i) for i in wrong[0])
    facts = [
        ("weight", name),
        ("values", f"{len(wrong)} of {matrix.size}"),
        ("first", f"{weight[row, column]} at row {row}, column {column}"),
    ]
    raise CompileError(
        "E0701",
        "a weight holds values that are no finite f32 numbers",
        facts,
        "export the model again from a checkpoint without NaN and infinities",
    )

"""Codes that make up for each other's errors: GPTQ, for the inputs that a Gram matrix stands for.

It lowers ``||X W^T - X Wq^T||``, where ``H = X^T X [K, K]`` is all that is needed of the inputs.
With the upper triangular ``U`` of ``H = U U^T`` that norm is the norm of ``(W - Wq) U``, whose
column j holds errors of the inputs 0 to j only. So the columns are rounded from first to last,
each after it has been shifted by what makes its column of the product zero:

    target_j = w_j + sum over i < j of (w_i - wq_i) * U[i, j] / U[j, j]

This is the update of the paper by the inverse of H, without the inverse: the same numbers, fewer
operations, and no loss where H is nearly singular. Sources: Frantar et al. 2022, arXiv:2210.17323;
the triangular form is Babai's nearest plane, see Chen et al. 2025, arXiv:2507.18553.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.checks import finite_matrix
from tapeout.passes.quantize.nearest import importances
from tapeout.passes.quantize.scales import Grid, fit
from tapeout.passes.quantize.weights import (
    QuantisedWeight,
    WeightFormat,
    decode,
    encode,
    grouped,
    per_weight,
)

Array = np.ndarray[Any, Any]

BLOCK = 128
"""Columns whose errors are passed on together, as one matrix product."""


def gptq(
    weight: Array,
    gram: Array,
    format: WeightFormat,
    *,
    name: str = "weight",
    damping: float = 0.01,
    by_activation: bool = False,
    search: bool = False,
    keep: Array | None = None,
) -> QuantisedWeight:
    """Quantise ``weight [N, K]`` (output, input) for inputs with ``gram = X^T X [K, K]``.

    ``damping`` is added to the diagonal, as a part of its mean. ``by_activation`` rounds the
    inputs of the largest magnitude first; groups still hold neighbours, so kernels see no
    difference, but their scales then come from the weights as they were. ``search`` is that of
    :func:`round_to_nearest`. ``keep [N, K]``, a mask, forces zero where it is false.
    Errors: E0701 and E0702 as for rounding to nearest; E0703 for a Gram matrix that is none.
    """
    matrix = finite_matrix(weight, name)
    n, k = matrix.shape
    assert gram.shape == (k, k), f"{name}: a Gram matrix of {gram.shape} for {k} inputs"
    assert 0 <= damping <= 1, f"{damping} is no part of the diagonal"
    assert keep is None or not format.bipolar, "codes of -1 and +1 have none for a pruned weight"
    _check(gram, name)
    order = _order(gram, by_activation)
    kept = np.ones((n, k), np.bool_) if keep is None else keep
    ordered = gram[np.ix_(order, order)] if by_activation else gram
    factor = triangular(ordered, damping, name).astype(np.float32)
    sweep = _Sweep(matrix.T[order], factor, kept.T[order], format)
    if by_activation or format.groups(k) == 1:
        scales, zeros = fit(
            grouped(np.where(kept, matrix, 0), format),
            importances(None, (n, k), format),
            format,
            name,
            search,
        )
        spread = [None if s is None else per_weight(s, (n, k), format) for s in (scales, zeros)]
        sweep.columns(0, k, [None if s is None else s.T[order] for s in spread])
    else:
        scales, zeros = _group_by_group(sweep, format, name, search)
    codes = np.empty((k, n), format.numpy)
    codes[order] = sweep.codes
    return QuantisedWeight(format, np.ascontiguousarray(codes.T), scales, zeros)


def _order(gram: Array, by_activation: bool) -> Array:
    if by_activation:
        return np.argsort(-gram.diagonal(), kind="stable")
    return np.arange(len(gram))


def triangular(gram: Array, damping: float, name: str) -> Array:
    """Upper triangular f64 ``U`` with ``U U^T = gram / mean(diagonal) + damping I``.

    An input that was never seen keeps a small diagonal and no neighbours: its weights are
    rounded to nearest. Rounding errors can leave a singular matrix slightly indefinite; the
    damping grows until it is not. Errors: E0703 where it would have to exceed the diagonal.
    """
    # Backwards, since numpy factors into a lower triangle times its transpose.
    backwards = gram[::-1, ::-1].astype(np.float64)
    diagonal = backwards.diagonal()
    # Only ratios within the factor count: a mean of 1 keeps them in the range of f32.
    backwards /= float(diagonal.mean()) if diagonal.any() else 1.0
    diagonal = backwards.diagonal().copy()
    added = max(damping, 1e-8)
    while added <= 1.0:
        np.fill_diagonal(backwards, diagonal + added)
        try:
            return np.linalg.cholesky(backwards)[::-1, ::-1]
        except np.linalg.LinAlgError:
            added *= 10
    raise _no_gram(name, "it has negative eigenvalues")


@dataclass
class _Sweep:
    """Rounding columns in order; all matrices are ``[K, N]``, so that a column is contiguous."""

    weights: Array
    factor: Array
    kept: Array
    format: WeightFormat

    def __post_init__(self) -> None:
        self.errors = np.zeros_like(self.weights)
        self.codes = np.zeros(self.weights.shape, self.format.numpy)

    def carried(self, start: int, stop: int) -> Array:
        """The errors of the columns before ``start``, as seen by ``start`` to ``stop``."""
        return self.factor[:start, start:stop].T @ self.errors[:start]

    def columns(self, start: int, stop: int, grid: Sequence[Array | None]) -> None:
        """Round the columns ``start`` to ``stop``; scales and zeros hold a row for each."""
        scales, zeros = grid
        assert scales is not None, "a format has scales"
        for at in range(start, stop, BLOCK):
            end = min(at + BLOCK, stop)
            carried = self.carried(at, end)
            for j in range(at, end):
                shift = carried[j - at] + self.factor[at:j, j] @ self.errors[at:j]
                zero = None if zeros is None else zeros[j - start]
                self.column(j, shift / self.factor[j, j], scales[j - start], zero)

    def column(self, j: int, shift: Array, scales: Array, zeros: Array | None) -> None:
        """Round one column, shifted."""
        target = np.where(self.kept[j], self.weights[j] + shift, 0)
        self.codes[j] = encode(target, scales, zeros, self.format)
        self.errors[j] = self.weights[j] - decode(self.codes[j], scales, zeros)


def _group_by_group(sweep: _Sweep, format: WeightFormat, name: str, search: bool) -> Grid:
    """Round all columns; the scales of a group are made when its turn comes."""
    k, width = len(sweep.weights), format.width(len(sweep.weights))
    found: list[Grid] = []
    for start in range(0, k, width):
        stop = min(start + width, k)
        groups = np.ascontiguousarray(_current(sweep, start, stop).T)[:, None]
        grid = fit(groups, np.ones((1, stop - start), np.float32), format, name, search)
        shape = (stop - start, len(groups))
        sweep.columns(
            start, stop, [None if g is None else np.broadcast_to(g.T, shape) for g in grid]
        )
        found.append(grid)
    zeros = [zero for _, zero in found if zero is not None]
    scales = np.concatenate([scale for scale, _ in found], axis=1)
    return scales, np.concatenate(zeros, axis=1) if zeros else None


def _current(sweep: _Sweep, start: int, stop: int) -> Array:
    """A group as the errors before it have changed it: the best continuous weights by now."""
    # These make all of the group's columns of the product zero, as long as none is rounded.
    corner = np.linalg.inv(sweep.factor[start:stop, start:stop]).T
    current = sweep.weights[start:stop] + corner @ sweep.carried(start, stop)
    return np.where(sweep.kept[start:stop], current, 0)


def _check(gram: Array, name: str) -> None:
    """E0703 for NaN, infinities, a negative square, or a matrix that is not symmetric."""
    if not np.isfinite(gram).all():
        raise _no_gram(name, "it holds NaN or infinities")
    if (gram.diagonal() < 0).any():
        raise _no_gram(name, "a square on its diagonal is negative")
    # Sums of products in f32 differ by their order; half against half cannot overflow.
    apart = np.abs(gram / 2 - gram.T / 2).max(initial=0.0)
    if apart > 1e-3 * gram.diagonal().max(initial=0.0):
        raise _no_gram(name, "it is not symmetric")


def _no_gram(name: str, why: str) -> CompileError:
    return CompileError(
        "E0703",
        "the sums of products of a layer's calibration inputs cannot be used",
        [("weight", name), ("why", why)],
        "look for NaN and huge values in the calibration data; without it, round to nearest",
    )

"""How far an array is from the one that it should be, and how far it may be.

An array *parts* from its reference when its largest error is more than what :class:`Tolerance`
allows. Errors are measured against the largest magnitude of the whole reference: an element that
cancelled to almost nothing has no more digits than those that it was made of.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tapeout.ir.dtypes import DType, dtype_of
from tapeout.ir.numeric import wide

Array = np.ndarray[Any, Any]

EPSILONS = 4
"""Rounding steps of its own element type that an array may always be off by."""


@dataclass(frozen=True)
class Tolerance:
    """What an error may be: ``atol + rtol * (largest magnitude of the reference)``.

    Never less than four rounding steps of the element type. ``rtol`` is about floats: integers
    may be off by ``atol``, or by one where they are of 8 bits or fewer, which are codes that a
    float was rounded to, and a float half-way between two codes rounds to either.

    ``step`` is a share of the largest magnitude: what rounding to codes somewhere inside may
    move a float by, 0 where nothing is rounded to codes.
    """

    rtol: float = 1e-4
    atol: float = 0.0
    step: float = 0.0

    def allowed(self, dtype: DType, largest: float) -> float:
        """The largest error that a value of ``dtype`` may have."""
        if dtype.is_float:
            own = EPSILONS * _epsilon(dtype)
            return self.atol + max(self.rtol, own, self.step) * largest
        return max(self.atol, 1.0 if dtype.is_integer and dtype.bits <= 8 else 0.0)


DEFAULT = Tolerance()


@dataclass(frozen=True)
class Difference:
    """One array against its reference, at the element where they differ most.

    ``error`` and ``allowed`` are absolute, in units of the values; ``sqnr_db`` is the reference's
    energy over the error's in decibels, infinite where they are equal. Arrays of different
    shapes have an infinite error, and no element: ``shapes`` then holds both, the reference's
    last.
    """

    error: float
    allowed: float
    largest: float
    """The largest finite magnitude of the reference."""
    sqnr_db: float
    index: tuple[int, ...] = ()
    value: float = 0.0
    reference: float = 0.0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def parts(self) -> bool:
        """Whether the error is more than allowed."""
        return self.error > self.allowed

    @property
    def relative(self) -> float:
        """The error relative to the reference's largest magnitude; 0 where both are 0."""
        return self.error / self.largest if self.largest else math.inf if self.error else 0.0

    @property
    def excess(self) -> float:
        """The error in units of what is allowed: more than 1 where the arrays part."""
        return self.error / self.allowed if self.allowed else math.inf if self.error else 0.0

    @property
    def where(self) -> str:
        """The element that differs most, or the shapes, as a message shows them."""
        if self.shapes is not None:
            return f"shape {list(self.shapes[0])} for {list(self.shapes[1])}"
        return f"{self.value:.9g} for {self.reference:.9g} at {list(self.index)}"

    def tree(self) -> dict[str, Any]:
        """The difference as JSON holds it: numbers that are not finite are text."""
        plain = {k: _plain(v) for k, v in asdict(self).items()}
        return {**plain, "relative": _plain(self.relative), "parts": self.parts}


def compare(have: Array, want: Array, tolerance: Tolerance) -> Difference:
    """The difference of ``have`` from its reference ``want``, both of one element type."""
    dtype = dtype_of(want)
    right = np.abs(_real(want))
    largest = float(right[np.isfinite(right)].max(initial=0.0))
    allowed = tolerance.allowed(dtype, largest)
    if have.shape != want.shape:
        shapes = (have.shape, want.shape)
        return Difference(math.inf, allowed, largest, -math.inf, shapes=shapes)
    errors = _errors(have, want)
    if not errors.any():
        return Difference(0.0, allowed, largest, math.inf)
    at = np.unravel_index(int(errors.argmax()), errors.shape)
    index = tuple(int(i) for i in at)
    value, reference = float(_real(have)[index]), float(_real(want)[index])
    error = float(errors[index])
    return Difference(error, allowed, largest, _sqnr(right, errors), index, value, reference)


def worst(differences: Mapping[str, Difference]) -> tuple[str, Difference]:
    """The name and the difference that is furthest beyond, or nearest to, what is allowed."""
    assert differences, "there is a value to compare"
    name = max(differences, key=lambda n: (differences[n].excess, differences[n].error))
    return name, differences[name]


def _errors(have: Array, want: Array) -> Array:
    """Absolute errors; equal infinities and two NaN have none, one NaN has an infinite one."""
    a, b = _real(have), _real(want)
    with np.errstate(invalid="ignore"):
        errors = np.asarray(np.abs(a - b))
    errors[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    errors[np.isnan(errors)] = math.inf
    if dtype_of(want).is_integer:
        # Neighbours beyond 2**53 are one number in f64.
        errors = np.asarray(np.where(have != want, np.maximum(errors, 1.0), 0.0))
    return errors


def _sqnr(right: Array, errors: Array) -> float:
    """Decibels of the reference's energy over the error's, of which there is some."""
    finite = right[np.isfinite(right)]
    signal, noise = float(np.square(finite).sum()), float(np.square(errors).sum())
    if not math.isfinite(noise) or not signal:
        return -math.inf
    return 10.0 * math.log10(signal / noise) if noise else math.inf


def _real(array: Array) -> Array:
    """The values in f64."""
    return wide(array).astype(np.float64)


def _epsilon(dtype: DType) -> float:
    """The relative rounding step of a float type: the number after 1, less 1."""
    one = np.ones((), dtype.numpy)
    return float(np.nextafter(one, one + one)) - 1.0


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

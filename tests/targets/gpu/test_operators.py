"""Every operator of the dialect, compiled for sm_80 and interpreted, gives what it means."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def test_the_compiled_kernels_of_an_operator_give_what_it_means(
    number: int, sample_results: Callable[[int], list[tuple[Array, Array, float]]]
) -> None:
    for have, want, tolerance in sample_results(number):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        if want.dtype.kind in "biu" or "int" in want.dtype.name:
            np.testing.assert_array_equal(have, want)
            continue
        a, b = want.astype(np.float64), have.astype(np.float64)
        top = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * max(top, 1e-3))

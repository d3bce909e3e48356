"""Every operator, compiled for each device that this machine runs, gives what it means."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def test_a_compiled_operator_gives_what_it_means(
    numbered: tuple[int, Any],
    compiled: Mapping[str, Array],
    close: Callable[[Array, Array, float], None],
) -> None:
    number, sample = numbered
    for i, want in enumerate(sample.run()):
        close(compiled[f"s{number}o{i}"], want, max(sample.tolerance, 2e-5))

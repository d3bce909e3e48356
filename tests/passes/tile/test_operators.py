"""Every operator of the dialect becomes tile programs that mean the same."""

from collections.abc import Callable
from typing import Any


def test_the_tile_programs_of_an_operator_mean_what_it_means(
    sample: Any, compared: Callable[[Any], None]
) -> None:
    compared(sample)

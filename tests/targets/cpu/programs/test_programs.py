"""Compiled programs give what the model means, and the same bits for any number of threads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Program = Callable[[int, dict[str, Array]], bytes]


def test_a_program_agrees_with_the_evaluator(
    program: Program,
    given: dict[str, Array],
    wanted: Sequence[Array],
    exact: Sequence[bool],
) -> None:
    found = np.frombuffer(program(2, given), np.float32)
    assert found.size == sum(w.size for w in wanted)
    pieces = np.split(found, np.cumsum([w.size for w in wanted])[:-1])
    for have, want, exactly in zip(pieces, wanted, exact, strict=True):
        top = 0 if exactly else float(np.abs(want).max())
        np.testing.assert_allclose(have, want.reshape(-1), rtol=top and 1e-4, atol=2e-5 * top)


def test_threads_do_not_change_a_bit(program: Program, given: dict[str, Array]) -> None:
    alone = program(1, given)
    assert [program(n, given) == alone for n in (2, 3)] == [True, True]

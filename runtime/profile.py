"""Time and modelled work of each kernel."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import Kernel, Size


class KernelTime(NamedTuple):
    """What ``calls`` runs of one kernel took, measured, and what one costs by the cost model."""

    name: str
    calls: int
    nanoseconds: int
    flops: int
    bytes: int


class _Counter(Protocol):
    calls: int
    nanoseconds: int


class _Counters(Protocol):
    def __getitem__(self, index: int, /) -> _Counter: ...


def kernel_times(
    kernels: Sequence[Kernel], counters: _Counters, symbols: Mapping[str, int]
) -> tuple[KernelTime, ...]:
    """Join the manifest's kernels with the counters of a session, in the same order."""
    return tuple(
        KernelTime(
            kernel.name,
            counters[i].calls,
            counters[i].nanoseconds,
            evaluate(kernel.flops, symbols),
            evaluate(kernel.bytes, symbols),
        )
        for i, kernel in enumerate(kernels)
    )


def evaluate(size: Size, symbols: Mapping[str, int]) -> int:
    """Return the value of a size: ``"2*S + max(B, 3) // 4"`` over known symbols.

    It comes from a manifest, so it is walked, never run: integers, symbols, ``+ - * // %``,
    ``min`` and ``max``. Errors: E0502 for anything else.
    """
    if isinstance(size, int):
        return size
    from tapeout.runtime.expression import evaluate_text

    try:
        return evaluate_text(size, symbols)
    except (ValueError, SyntaxError, ArithmeticError, RecursionError) as error:
        facts = (("expression", size), ("why", error))
        raise RunError("E0502", "the artifact's manifest is malformed", facts) from None

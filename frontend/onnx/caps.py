"""Sizes that no run can have: negative ones, and tensors beyond any memory."""

from collections.abc import Iterable

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import bounds, is_less
from tapeout.ir.shapes import shape_text
from tapeout.ir.types import Spec

MOST_BYTES = 2**42
"""4 TiB: beyond what a device here has, and far below where 64-bit sizes overflow."""


def check_sizes(what: str, specs: Iterable[Spec]) -> None:
    """E0212 for a shape with a negative size, or of more bytes at the least than the cap."""
    for spec in specs:
        if any(is_less(d, 0) for d in spec.dims):
            raise CompileError(
                "E0212", f"{what}: a size is negative", [("shape", shape_text(spec.dims))]
            )
        least = bounds(spec.bytes)[0]
        if least is not None and least > MOST_BYTES:
            raise CompileError(
                "E0212",
                f"{what}: a tensor is larger than any memory",
                [("shape", shape_text(spec.dims)), ("bytes", least), ("allowed", MOST_BYTES)],
            )

"""What an exported program asserts about itself: nothing is computed by it."""

from __future__ import annotations

from typing import Any

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule


@rule(
    "aten._assert_tensor_metadata",
    "aten._assert_scalar",
    "aten._assert_async",
    "aten.sym_constrain_range",
    "aten.sym_constrain_range_for_size",
)
def asserted(b: Builder, call: Call, *given: Any) -> None:
    """Sizes are held by the guards that operators bring along (``ir/guards.py``)."""

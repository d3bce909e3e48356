"""The pass that brings operators into one spelling, so that later rules need know only that."""

from dataclasses import dataclass

from tapeout.ir.module import Module
from tapeout.passes.manager import Pass
from tapeout.passes.rewrite import drive
from tapeout.passes.simplify import attention_operands, gathers, linear, maps, positions, views


@dataclass(frozen=True)
class Canonicalise(Pass):
    """Drop operators that change nothing and give equal things one spelling.

    Saves a kernel for each operator that goes: most of them views and conversions that an
    exporter left behind.
    """

    name = "canonicalise"

    def apply(self, module: Module) -> None:
        """Apply every identity to the end."""
        drive(module, PATTERNS)


PATTERNS = (
    *(*maps.PATTERNS, *views.PATTERNS, *gathers.PATTERNS),
    *(*positions.PATTERNS, *linear.PATTERNS, *attention_operands.PATTERNS),
)

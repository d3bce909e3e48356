"""Dead code: operators whose results nobody reads."""

from dataclasses import dataclass

from tapeout.ir.module import Module
from tapeout.passes.manager import Pass
from tapeout.passes.rewrite import drive


@dataclass(frozen=True)
class DropDead(Pass):
    """Erase operators that no output needs; saves their time and the weights they name.

    An operator that gives a symbol its value stays: types elsewhere may speak of the symbol.
    """

    name = "drop-dead"

    def apply(self, module: Module) -> None:
        """Erase from the last reader backwards."""
        drive(module, ())

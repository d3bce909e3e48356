"""The ``nn`` dialect: every operator class that the modules of ``ir.ops`` define.

Families are found by walking the package, so a new operator is one class and no list.
"""

import importlib
import pkgutil
from functools import cache

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.ir import Attribute, Dialect
from xdsl.irdl import IRDLOperation

import tapeout.ir.ops
from tapeout.ir import types
from tapeout.ir.op import NNOp
from tapeout.ir.tile.dialect import dialect as tile_dialect


@cache
def operators() -> dict[str, type[IRDLOperation]]:
    """Every operator class by name, structure operators included."""
    found: dict[str, type[IRDLOperation]] = {}
    for info in pkgutil.iter_modules(tapeout.ir.ops.__path__):
        module = importlib.import_module(f"tapeout.ir.ops.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, IRDLOperation) and value is not NNOp:
                if hasattr(value, "name"):
                    found[value.name] = value
    return found


@cache
def dialect() -> Dialect:
    """The dialect with all operators, the tensor type and the attributes."""
    attributes = [
        value
        for value in vars(types).values()
        if isinstance(value, type) and issubclass(value, Attribute) and hasattr(value, "name")
    ]
    return Dialect("nn", list(operators().values()), attributes)


def context() -> Context:
    """An xDSL context that can parse modules and tile programs of this compiler."""
    made = Context()
    made.load_dialect(Builtin)
    made.load_dialect(dialect())
    made.load_dialect(tile_dialect())
    return made

"""The ``tile`` dialect: its operators and types, so that printed programs parse back."""

from functools import cache

from xdsl.ir import Dialect, Operation
from xdsl.irdl import IRDLOperation

from tapeout.ir.tile import ops
from tapeout.ir.tile.types import BufferType, NumberAttr, TileType


@cache
def dialect() -> Dialect:
    """Every operator class of :mod:`ops`, the buffer type and the tile type."""
    classes = [v for v in vars(ops).values() if isinstance(v, type) and v is not IRDLOperation]
    operators: list[type[Operation]] = [c for c in classes if issubclass(c, IRDLOperation)]
    return Dialect("tile", operators, [BufferType, TileType, NumberAttr])

"""Types of the tile level: buffers in a memory level, and tiles that a core computes with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
from xdsl.ir import Data, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from tapeout.ir.dtypes import DTYPES, DType
from tapeout.ir.expr import Expr, ExprLike, as_expr, product
from tapeout.ir.expr_text import parse_exprs, parse_ranges, ranges_text

# Memory levels. ``global``: arguments of the kernel. ``shared``: scratch that outlives one
# parallel loop (an arena buffer on a CPU or GPU). ``local``: scratch of one iteration of a
# parallel loop (cache-resident on a CPU, shared memory on a GPU, block RAM on an FPGA, core
# memory on a mesh). Tiles themselves live in registers.
SPACES = ("global", "shared", "local")


@dataclass(frozen=True, slots=True)
class BufferSpec:
    """A dense row-major array in one memory level."""

    dims: tuple[Expr, ...]
    dtype: DType
    space: str = "global"

    def flat(self, index: Iterable[ExprLike]) -> Expr:
        """The element offset of an index."""
        total = as_expr(0)
        for dim, i in zip(self.dims, index, strict=True):
            total = total * dim + i
        return total

    @property
    def bytes(self) -> Expr:
        """The bytes of the whole buffer."""
        return product(self.dims) * self.dtype.bytes


@irdl_attr_definition
class BufferType(Data[BufferSpec], TypeAttribute):
    """``!tile.buffer<"M, K", f32, global>``, symbol ranges last as in ``!nn.tensor``."""

    name = "tile.buffer"

    def print_parameter(self, printer: Printer) -> None:
        """Print dims, element type, level and ranges."""
        ranges = ranges_text(self.data.dims)
        dims = ", ".join(map(str, self.data.dims))
        printer.print_string(f'<"{dims}", {self.data.dtype}, {self.data.space}')
        printer.print_string(f', "{ranges}">' if ranges else ">")

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> BufferSpec:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            dims = parser.parse_str_literal()
            parser.parse_punctuation(",")
            dtype = DTYPES[parser.parse_identifier()]
            parser.parse_punctuation(",")
            space = parser.parse_identifier()
            ranges = parser.parse_str_literal() if parser.parse_optional_punctuation(",") else ""
        return BufferSpec(parse_exprs(dims, parse_ranges(ranges)), dtype, space)


@dataclass(frozen=True, slots=True)
class TileSpec:
    """A small array of fixed shape, held in registers; a size of 1 broadcasts."""

    shape: tuple[int, ...]
    dtype: DType


@irdl_attr_definition
class TileType(Data[TileSpec], TypeAttribute):
    """``!tile.tile<"14, 32", f32>``."""

    name = "tile.tile"

    def print_parameter(self, printer: Printer) -> None:
        """Print shape and element type."""
        printer.print_string(f'<"{", ".join(map(str, self.data.shape))}", {self.data.dtype}>')

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> TileSpec:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            shape = parse_exprs(parser.parse_str_literal())
            parser.parse_punctuation(",")
            return TileSpec(tuple(map(int, shape)), DTYPES[parser.parse_identifier()])


@irdl_attr_definition
class NumberAttr(Data[int | float]):
    """One number; integers stay exact, also those that no float holds."""

    name = "tile.number"

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<1>``, ``<1.0e-05>`` or ``<"-inf">``."""
        with printer.in_angle_brackets():
            printer.print_string(_number_text(self.data))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> int | float:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            text = parser.parse_optional_str_literal()
            return parser.parse_number() if text is None else float(text)


def _number_text(value: int | float) -> str:
    if not math.isfinite(value):
        return f'"{value}"'
    text = repr(value)
    # A float literal of this text format has a point: 1e-05 is none, 1.0e-05 is one.
    return text if "." in text else text.replace("e", ".0e")


def number(value: float) -> NumberAttr:
    """The attribute of a number; a bool is 0 or 1, a numpy scalar a Python number."""
    plain = cast(int | float, np.asarray(value).item()) if isinstance(value, np.generic) else value
    return NumberAttr(int(plain) if isinstance(plain, bool) else plain)

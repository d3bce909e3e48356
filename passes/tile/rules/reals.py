"""Arithmetic on float tiles, written as formulas: coordinates, distances and weights."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType, i64
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import tile_of


@dataclass(frozen=True)
class Real:
    """A float tile with operators; plain numbers become constants of its type."""

    b: TileBuilder
    tile: SSAValue

    @property
    def dtype(self) -> DType:
        """The element type."""
        return tile_of(self.tile).dtype

    def lift(self, other: Real | float) -> Real:
        """A plain number as a tile."""
        if isinstance(other, Real):
            return other
        return Real(self.b, self.b.full(other, (1,) * len(tile_of(self.tile).shape), self.dtype))

    def map(self, fn: str, *others: Real | float) -> Real:
        """A scalar function of this tile and others."""
        return Real(self.b, self.b.map(fn, self.tile, *(self.lift(o).tile for o in others)))

    def __add__(self, other: Real | float) -> Real:
        return self.map("add", other)

    def __radd__(self, other: float) -> Real:
        return self.lift(other) + self

    def __sub__(self, other: Real | float) -> Real:
        return self.map("sub", other)

    def __rsub__(self, other: float) -> Real:
        return self.lift(other) - self

    def __mul__(self, other: Real | float) -> Real:
        return self.map("mul", other)

    def __rmul__(self, other: float) -> Real:
        return self.lift(other) * self

    def __truediv__(self, other: Real | float) -> Real:
        return self.map("div", other)

    def __rtruediv__(self, other: float) -> Real:
        return self.lift(other) / self

    def max(self, other: Real | float) -> Real:
        """The larger one; NaN wins."""
        return self.map("max", other)

    def min(self, other: Real | float) -> Real:
        """The smaller one; NaN wins."""
        return self.map("min", other)

    def clip(self, low: Real | float, high: Real | float) -> Real:
        """Limited to ``[low, high]``."""
        return self.min(high).max(low)

    def floor(self) -> Real:
        """Rounded down."""
        return self.map("floor")

    def ceil(self) -> Real:
        """Rounded up."""
        return self.map("ceil")

    def compare(self, fn: str, other: Real | float) -> SSAValue:
        """A bool tile."""
        return self.b.map(fn, self.tile, self.lift(other).tile)

    def where(self, condition: SSAValue, other: Real | float) -> Real:
        """This where the condition holds, else ``other``."""
        return Real(self.b, self.b.map("where", condition, self.tile, self.lift(other).tile))

    def to(self, dtype: DType) -> Real:
        """In another float type."""
        return Real(self.b, self.b.convert(self.tile, dtype))

    def integer(self) -> SSAValue:
        """Truncated to an i64 tile; unspecified for what i64 does not hold."""
        return self.b.convert(self.tile, i64)


def triangle(distance: Real) -> Real:
    """The linear interpolation kernel."""
    return (1.0 - distance.map("abs")).max(0.0)


def cubic(distance: Real, a: float) -> Real:
    """The cubic convolution kernel with coefficient ``a``. Source: Keys 1981."""
    d = distance.map("abs")
    near = ((a + 2) * d - (a + 3)) * d * d + 1.0
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return near.where(d.compare("le", 1.0), far.where(d.compare("lt", 2.0), 0.0))

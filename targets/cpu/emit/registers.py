"""Which C variables hold which tile.

A tile of shape ``[r, c]`` is ``r`` rows of ``c / lanes`` vector variables; where ``c`` is 1, it is
one vector per row whose lanes are all equal. The right side of a deep dot, ``[4, c]`` of bytes or
``[2, c]`` of 16 bits, is one row of vectors of i32 with the elements of a column in a lane. A line,
which is a row of four vectors of bytes to be interleaved, or was transposed, is one vector of i32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import SSAValue

from tapeout.ir.tile.ops import tile_of
from tapeout.targets.cpu.emit.writer import Writer
from tapeout.targets.host.text import carrier

Rows = Sequence[Sequence[str]]
"""C text of each vector of a tile."""


@dataclass
class Registers:
    """The variables of the tiles of one kernel, defined line by line in ``out``."""

    out: Writer
    lanes: int
    _count: int = 0
    _rows: dict[SSAValue, Rows] = field(default_factory=dict[SSAValue, Rows])

    def fresh(self, hint: str) -> str:
        """A name that no tile has yet; ``hint`` says what it holds."""
        self._count += 1
        return f"{hint}_{self._count}"

    def rows(self, value: SSAValue) -> Rows:
        """The variables of a tile."""
        return self._rows[value]

    def bind(self, value: SSAValue, rows: Rows) -> None:
        """A tile that variables hold already."""
        self._rows[value] = rows

    def define(self, value: SSAValue, rows: Rows, hint: str, t: str = "") -> None:
        """New constants for a tile, with these values; what is equal is one constant.

        ``t``: the element type of the vectors, where it is not the tile's own.
        """
        t, name = t or carrier(tile_of(value).dtype).name, self.fresh(hint)
        texts = dict.fromkeys(text for row in rows for text in row)
        named: dict[str, str] = {}
        for r, row in enumerate(rows):
            for q, text in enumerate(row):
                if text not in named:
                    named[text] = f"{name}_{r}_{q}" if len(texts) > 1 else name
                    self.out.line(f"const v_{t} {named[text]} = {text};")
        self.bind(value, [[named[text] for text in row] for row in rows])

    def variables(self, value: SSAValue, rows: Rows, hint: str) -> Rows:
        """New variables of the type of a tile, which begin with these values."""
        t, name = carrier(tile_of(value).dtype).name, self.fresh(hint)
        names = [[f"{name}_{r}_{q}" for q in range(len(row))] for r, row in enumerate(rows)]
        for row, texts in zip(names, rows, strict=True):
            for reg, text in zip(row, texts, strict=True):
                self.out.line(f"v_{t} {reg} = {text};")
        return names

    def shape(self, value: SSAValue) -> tuple[int, int]:
        """Rows and columns of a tile."""
        shape = tile_of(value).shape
        assert len(shape) == 2, f"a CPU tile has rows and columns, not {shape}"
        return shape[0], shape[1]

    def is_column(self, value: SSAValue) -> bool:
        """Whether a tile has one column, so that each vector holds one element many times."""
        return self.shape(value)[1] == 1

    def is_quads(self, value: SSAValue) -> bool:
        """Whether each lane of a tile's vectors holds the four bytes of a column."""
        return len(self.rows(value)) == 1 and self.shape(value)[0] == 4

    def is_lines(self, value: SSAValue) -> bool:
        """Whether one vector holds as many bytes of a row as four of theirs."""
        return self.shape(value)[1] == 4 * self.lanes and len(self.rows(value)[0]) == 1

    def places(self, value: SSAValue) -> list[list[tuple[int, int]]]:
        """Row and vector of every variable of a tile, row by row."""
        rows, columns = self.shape(value)
        assert columns == 1 or columns % self.lanes == 0, f"{columns} columns"
        return [[(r, q) for q in range(max(1, columns // self.lanes))] for r in range(rows)]

    def pick(self, value: SSAValue, r: int, q: int) -> str:
        """The vector of a tile at a place, broadcast along sizes of 1."""
        rows = self.rows(value)
        row = rows[r if len(rows) > 1 else 0]
        return row[q if len(row) > 1 else 0]

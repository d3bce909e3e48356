"""Tile operators that touch memory or index arithmetic: loads, stores, indices as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import ZERO, Expr, as_expr
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import bounds_of, buffer_of, lane_axis, tile_of
from tapeout.targets.cpu.emit import access
from tapeout.targets.cpu.emit.access import Access
from tapeout.targets.cpu.emit.arithmetic import Scalar
from tapeout.targets.cpu.emit.registers import Registers
from tapeout.targets.host.text import c_expr, carrier


@dataclass
class Memory:
    """Prints accesses; ``names`` are the C names of dimensions."""

    regs: Registers
    pointers: Mapping[SSAValue, str]
    names: Mapping[str, str]
    _late: dict[SSAValue, ops.LoadOp] = field(default_factory=dict[SSAValue, ops.LoadOp])

    def load(self, op: ops.LoadOp) -> None:
        """Load a tile now, or, when only products read its rows as scalars, where they do."""
        if _is_left_of_products_only(op.y) and (self.regs.is_column(op.y) or _is_deep(op.y)):
            self._late[op.y] = op
            return
        if _is_deep(op.y):
            self._load_quads(op)
            return
        if _is_interleaved(op.y):
            self._load_line(op)
            return
        rows = [[self._vector(op, r, q) for r, q in row] for row in self.regs.places(op.y)]
        self.regs.define(op.y, rows, self.pointers[op.buffer])

    def prefetch(self, op: ops.PrefetchOp) -> None:
        """One cache line."""
        spec = buffer_of(op.buffer)
        at = c_expr(spec.flat(op.index.data) + op.ahead.data // spec.dtype.bytes, self.names)
        self.regs.out.line(f"__builtin_prefetch({self.pointers[op.buffer]} + {at});")

    def look_up(self, op: ops.LookUpOp) -> None:
        """Sums in an array of vectors, which a function of the prelude adds to row by row."""
        name, codes = self.regs.fresh("sums"), self._piece(op.codes, op.codes_at.data, 0)
        sizes = (f"{op.steps} /* steps */", f"{op.bits} /* bits */", f"{op.up.data} /* up */")
        rows: list[list[str]] = []
        for r, row in enumerate(self.regs.places(op.y)):
            sums, starts = f"{name}_{r}", ", ".join(self.regs.pick(op.acc, r, q) for _, q in row)
            tables = self._piece(op.tables, op.tables_at.data, r)
            given = ", ".join((sums, tables, codes, *sizes, f"{op.ahead.data} /* bytes ahead */"))
            self.regs.out.line(f"v_i32 {sums}[] = {{{starts}}};")
            self.regs.out.line(f"v_look_up({given});")
            rows.append([f"{sums}[{q}]" for _, q in row])
        self.regs.bind(op.y, rows)

    def _piece(self, buffer: SSAValue, at: Sequence[Expr], row: int) -> str:
        """The address of a place along the leading axes of a buffer."""
        spec = buffer_of(buffer)
        index = [*at, *(ZERO for _ in spec.dims[len(at) :])]
        flat = access.substitute_lanes(spec.flat(index), row, 0)
        return f"{self.pointers[buffer]} + {c_expr(flat, self.names)}"

    def _load_quads(self, op: ops.LoadOp) -> None:
        """The right side of a deep dot: in the 32 bits of each lane the rows of one column."""
        depth, columns = self.regs.shape(op.y)
        places = [self._access(op, op.y, 0, q) for q in range(columns // self.regs.lanes)]
        below = self._access(op, op.y, 1, 0)
        assert not places[0].bounds, "packed weights are filled up"
        steps = (below.flat - places[0].flat, places[0].stride)
        assert steps == (1, depth), "packed weights hold the rows of a dot together"
        texts = [f"v_load_quads({at.pointer} + {at.at(0)[0]})" for at in places]
        self.regs.define(op.y, [texts], self.pointers[op.buffer], "i32")

    def _load_line(self, op: ops.LoadOp) -> None:
        """A row of four vectors of bytes as what one register of i32 holds."""
        at = self._access(op, op.y, 0, 0)
        assert at.stride == 1, "the bytes of a line lie side by side"
        assert not at.bounds, "lines are whole"
        text = f"v_load_quads({at.pointer} + {at.at(0)[0]})"
        self.regs.define(op.y, [[text]], self.pointers[op.buffer], "i32")

    def _vector(self, op: ops.LoadOp, r: int, q: int) -> str:
        at, fill = self._access(op, op.y, r, q), float(op.fill.data)
        dtype = tile_of(op.y).dtype
        if self.regs.is_column(op.y) or (at.column is None and not at.tiles):
            text = f"v_splat_{carrier(dtype).name}({access.load_scalar(at, fill)})"
        else:
            text = access.load_vector(at, fill)
        # The upper bits of a byte that holds a narrower integer are anything.
        return f"v_round_to_{dtype.name}({text})" if dtype.bits < 8 and not dtype.is_float else text

    def late(self, value: SSAValue) -> Scalar | None:
        """The scalars of a tile whose load was put off; None when it lies in registers."""
        op = self._late.get(value)
        if op is None:
            return None
        if not self.regs.is_column(value):
            return lambda r: access.load_quad(self._access(op, op.y, r, 0))
        return lambda r: access.load_scalar(self._access(op, op.y, r, 0), float(op.fill.data))

    def store(self, op: ops.StoreOp) -> None:
        """Store a tile, row by row."""
        if self.regs.is_lines(op.value):
            self._store_lines(op)
            return
        write = access.store_scalar if self.regs.is_column(op.value) else access.store_vector
        for row in self.regs.places(op.value):
            for r, q in row:
                value = self.regs.pick(op.value, r, q)
                for line in write(self._access(op, op.value, r, q), value):
                    self.regs.out.line(line)

    def _store_lines(self, op: ops.StoreOp) -> None:
        """Rows that are a register of i32 each, as four vectors of bytes."""
        for r in range(self.regs.shape(op.value)[0]):
            at = self._access(op, op.value, r, 0)
            assert at.stride == 1, "the bytes of a line lie side by side"
            assert not at.bounds, "lines are whole"
            line = self.regs.pick(op.value, r, 0)
            self.regs.out.line(f"v_store_quads({at.pointer} + {at.at(0)[0]}, {line});")

    def index(self, op: ops.IndexOp) -> None:
        """The value of an expression at each lane."""
        rows = [[self._index(op, r, q) for r, q in row] for row in self.regs.places(op.y)]
        self.regs.define(op.y, rows, "at")

    def _index(self, op: ops.IndexOp, r: int, q: int) -> str:
        lanes = self.regs.lanes
        expr = access.substitute_lanes(op.expr.data[0], r, q * lanes)
        lane = next((s for s in expr.symbols() if lane_axis(s) == 1), None)
        if not op.indices:
            if lane is None:
                return f"v_splat_i64({c_expr(expr, self.names)})"
            if expr.coefficient(lane) == 1:
                return f"v_iota_i64({c_expr(expr.substitute({lane: 0}), self.names)})"
        elements: list[str] = []
        for i in range(lanes):
            value = expr if lane is None else expr.substitute({lane: as_expr(i)})
            elements.append(c_expr(value, self._names_at_lane(op.indices, r, q, i)))
        return f"(v_i64){{{', '.join(elements)}}}"

    def _names_at_lane(self, indices: Sequence[SSAValue], r: int, q: int, i: int) -> dict[str, str]:
        names = dict(self.names)
        for position, operand in enumerate(indices):
            at = 0 if self.regs.is_column(operand) else i
            names[f"_at{position}"] = f"{self._place(operand, r, q)}[{at}]"
        return names

    def _place(self, operand: SSAValue, r: int, q: int) -> str:
        """The vector of an index operand, whose elements are read as i64: places outgrow an int."""
        reg = self.regs.pick(operand, r, q)
        return reg if tile_of(operand).dtype is i64 else f"(i64){reg}"

    def scalar_names(self, indices: Sequence[SSAValue]) -> dict[str, str]:
        """Names of dimensions and of index operands that hold one element each."""
        assert all(self.regs.shape(v) == (1, 1) for v in indices), "one element for all lanes"
        return self._names_at_lane(indices, 0, 0, 0)

    def _access(self, op: ops.LoadOp | ops.StoreOp, tile: SSAValue, r: int, q: int) -> Access:
        """One vector of a load or store."""
        spec, column = buffer_of(op.buffer), q * self.regs.lanes

        def here(value: Expr) -> Expr:
            return access.substitute_lanes(value, r, column)

        flat = here(spec.flat(op.index.data))
        pairs = [(here(e), here(n)) for e, n in bounds_of(op)]
        names, tiles = dict(self.names), dict[str, str]()
        for position, operand in enumerate(op.indices):
            reg = self._place(operand, r, q)
            if self.regs.is_column(operand):
                names[f"_at{position}"] = f"{reg}[0]"
            else:
                tiles[f"_at{position}"] = reg + "[{lane}]"
        used = [flat, *(e for pair in pairs for e in pair)]
        lane = next((s for e in used for s in e.symbols() if lane_axis(s) == 1), None)
        return Access(
            self.pointers[op.buffer],
            spec.dtype,
            flat,
            access.pruned(pairs),
            lane,
            names,
            tiles,
            self.regs.lanes,
        )


def _is_left_of_products_only(value: SSAValue) -> bool:
    readers = [u.operation for u in value.uses]
    return all(isinstance(op, ops.DotOp) and op.a is value for op in readers)


def _is_interleaved(value: SSAValue) -> bool:
    """Whether a line of bytes is read as what one register holds."""
    return any(isinstance(u.operation, ops.InterleaveOp) for u in value.uses)


def _is_deep(value: SSAValue) -> bool:
    """Whether products read a tile several steps of ``k`` at a time, perhaps in fields of it."""
    for op in (u.operation for u in value.uses):
        if isinstance(op, ops.DotOp) and value is not op.acc and tile_of(op.a).shape[1] > 1:
            return True
        if isinstance(op, ops.FieldOp | ops.MapOp) and _is_deep(op.y):
            return True
    return False

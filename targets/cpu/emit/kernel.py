"""One tile program as one C file.

A tile of shape ``[r, c]`` is ``r * c / lanes`` vector variables; a column of 1 is one vector per
row whose lanes are all equal. Top-level parallel loops become task functions for the thread
pool; whatever stands between them is a task function with a single task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir import dtypes
from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr, Symbol, as_expr, ceildiv, product
from tapeout.ir.scalars import SCALARS
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import bounds_of, buffer_of, lane_axis, tile_of
from tapeout.targets.cpu.device import Device
from tapeout.targets.cpu.emit import access, functions
from tapeout.targets.cpu.emit.access import Access
from tapeout.targets.cpu.emit.text import c_expr, c_factor, c_type, carrier, literal


@dataclass(frozen=True)
class Scratch:
    """Memory that a kernel needs beside its arguments.

    ``shared`` follow the arguments in the buffer list; so do ``per_thread``, whose sizes are
    symbolic, one copy per thread. ``fixed_bytes`` come from each thread's own scratch.
    """

    shared: tuple[Expr, ...]
    per_thread: tuple[Expr, ...]
    fixed_bytes: int


@dataclass(frozen=True)
class KernelText:
    """The C file of a kernel and what calling it takes."""

    name: str
    source: str
    scratch: Scratch


def emit_kernel(program: ops.ProgramOp, device: Device, slots: Mapping[str, int]) -> KernelText:
    """Print one program; ``slots`` are the positions of dimension symbols in ``session->dims``."""
    return _Printer(program, device, slots).print()


ALIGN = 64


@dataclass
class _Segment:
    """Consecutive top-level operators that run as one task function."""

    body: list[Operation] = field(default_factory=list)
    loops: list[ops.ForOp] = field(default_factory=list)


class _Printer:
    def __init__(self, program: ops.ProgramOp, device: Device, slots: Mapping[str, int]) -> None:
        self.program, self.device, self.slots = program, device, slots
        self.name = program.sym_name.data
        self.lines: list[str] = []
        self.depth = 1
        self.count = 0
        self.pointers: dict[SSAValue, str] = {}
        self.values: dict[SSAValue, list[list[str]]] = {}
        self.late: dict[SSAValue, ops.LoadOp] = {}
        self.shared: list[SSAValue] = []
        self.per_thread: list[SSAValue] = []
        self.fixed: dict[SSAValue, int] = {}
        self.fixed_bytes = 0
        self.place_buffers()

    # Buffers

    def place_buffers(self) -> None:
        arguments = self.program.body.block.args
        for value, name in zip(arguments, self.program.names.data, strict=True):
            self.pointers[value] = name
        number = 0
        for op in self.program.walk():
            if not isinstance(op, ops.AllocOp):
                continue
            spec = buffer_of(op.buffer)
            self.pointers[op.buffer] = f"tmp{number}"
            number += 1
            size = spec.bytes.constant
            if spec.space == "shared":
                self.shared.append(op.buffer)
            elif size is None:
                self.per_thread.append(op.buffer)
            else:
                self.fixed[op.buffer] = self.fixed_bytes
                self.fixed_bytes += -(-size // ALIGN) * ALIGN

    def scratch(self) -> Scratch:
        return Scratch(
            tuple(buffer_of(v).bytes for v in self.shared),
            tuple(ceildiv(buffer_of(v).bytes, ALIGN) * ALIGN for v in self.per_thread),
            self.fixed_bytes,
        )

    def pointer_lines(self, used: set[SSAValue]) -> list[str]:
        arguments = list(self.program.body.block.args)
        inputs = len(arguments) - self.program.outputs.data
        lines: list[str] = []
        for position, value in enumerate([*arguments, *self.shared]):
            if value not in used:
                continue
            const = "const " if position < inputs else ""
            t, p = c_type(buffer_of(value).dtype), self.pointers[value]
            lines.append(f"{const}{t} *restrict {p} = b[{position}];")
        for offset, value in enumerate(self.per_thread):
            if value in used:
                t, p = c_type(buffer_of(value).dtype), self.pointers[value]
                position = len(arguments) + len(self.shared) + offset
                size = c_factor(ceildiv(buffer_of(value).bytes, ALIGN) * ALIGN, self.names())
                lines.append(f"{t} *restrict {p} = (void *)((char *)b[{position}] + thread * {size});")
        for value, offset in self.fixed.items():
            if value in used:
                t, p = c_type(buffer_of(value).dtype), self.pointers[value]
                lines.append(f"{t} *restrict {p} = (void *)((char *)rt_scratch(s, thread) + {offset});")
        return lines

    # The file

    def print(self) -> KernelText:
        segments = self.segments()
        bodies = [self.segment(i, s) for i, s in enumerate(segments)]
        calls = [f"  to_run(s, {self.name}_part{i}, &call, {n}, {self.work()});" for i, (_, n) in enumerate(bodies)]
        found = self.all_symbols() | self.program.work.data[0].symbols()
        dims = sorted({s.name for s in found if s.name in self.slots})
        head = [
            f"/* {self.title()} */",
            '#include "model.h"',
            "",
        ]
        entry = [
            f"void RT_NAME({self.name})(rt_session *s, void *const *b)",
            "{",
            *(f"  const i64 {d_name(d)} = s->dims[{self.slots[d]}];" for d in dims),
            *(f"  (void){d_name(d)};" for d in dims),
            "  to_call call = {s, b};",
            *calls,
            "}",
        ]
        text = "\n".join([*head, *(line for body, _ in bodies for line in [*body, ""]), *entry, ""])
        return KernelText(self.name, text, self.scratch())

    def work(self) -> str:
        """The program's work; without an estimate it is worth spreading."""
        value = self.program.work.data[0]
        known = {s.name for s in value.symbols()} <= set(self.slots)
        return self.text(value) if known else "INT64_MAX"

    def title(self) -> str:
        return self.program.title.data

    def names(self) -> dict[str, str]:
        return {name: d_name(name) for name in self.slots}

    def all_symbols(self) -> set[Symbol]:
        found: set[Symbol] = set()
        for op in self.program.walk():
            for attribute in op.properties.values():
                data = getattr(attribute, "data", None)
                if isinstance(data, tuple):
                    for e in data:
                        if isinstance(e, Expr):
                            found |= e.symbols()
            for value in [*op.operands, *op.results]:
                kind = value.type
                if hasattr(kind, "data") and hasattr(kind.data, "dims"):
                    for e in kind.data.dims:
                        found |= e.symbols()
        return found

    def segments(self) -> list[_Segment]:
        found: list[_Segment] = []
        for op in self.program.body.block.ops:
            if isinstance(op, ops.AllocOp):
                continue
            if isinstance(op, ops.ForOp) and op.kind.data == "parallel":
                loops = [op]
                while (inner := _only_parallel(loops[-1].body.block)) is not None:
                    loops.append(inner)
                found.append(_Segment([op], loops))
            elif found and not found[-1].loops:
                found[-1].body.append(op)
            else:
                found.append(_Segment([op]))
        return found

    def segment(self, number: int, segment: _Segment) -> tuple[list[str], str]:
        self.lines, self.depth = [], 1
        used = {v for op in segment.body for o in op.walk() for v in o.operands if v in self.pointers}
        counts = [self.trips(loop) for loop in segment.loops]
        if segment.loops:
            self.open("for (i64 task = begin; task < end; task++) {")
            rest = "task"
            for position, loop in enumerate(segment.loops):
                below = product(counts[position + 1 :])
                at = rest if below == 1 else f"({rest} / {self.factor(below)})"
                rest = rest if below == 1 else f"({rest} % {self.factor(below)})"
                lo, _, step = loop.range.data
                value = at if step == 1 else f"{at} * {self.factor(step)}"
                value = value if lo == 0 else f"{self.text(lo)} + {value}"
                self.line(f"const i64 {loop.symbol.name} = {value};")
            self.body(segment.loops[-1].body.block)
            self.close()
        else:
            self.line("(void)begin, (void)end;")
            for op in segment.body:
                self.operator(op)
        dims = [d for d in sorted(self.slots) if d in {s.name for s in self.all_symbols()}]
        head = [
            f"static void {self.name}_part{number}(void *p, i64 begin, i64 end, int thread)",
            "{",
            "  rt_session *const s = ((to_call *)p)->session;",
            "  void *const *const b = ((to_call *)p)->buffers;",
            "  (void)s, (void)thread;",
            *(f"  const i64 {d_name(d)} = s->dims[{self.slots[d]}];" for d in dims),
            *(f"  (void){d_name(d)};" for d in dims),
            *("  " + line for line in self.pointer_lines(used)),
        ]
        return [*head, *self.lines, "}"], c_expr(product(counts), self.names())

    def trips(self, loop: ops.ForOp) -> Expr:
        lo, hi, step = loop.range.data
        return ceildiv(hi - lo, step)

    # Statements

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.line("}")

    def text(self, value: Expr) -> str:
        return c_expr(value, self.names())

    def factor(self, value: Expr) -> str:
        return c_factor(value, self.names())

    def fresh(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def body(self, block: Block) -> None:
        for op in block.ops:
            if not isinstance(op, ops.YieldOp):
                self.operator(op)

    def operator(self, op: Operation) -> None:
        match op:
            case ops.ForOp():
                self.loop(op)
            case ops.AllocOp():
                pass
            case ops.LoadOp():
                self.load(op)
            case ops.StoreOp():
                self.store(op)
            case ops.FullOp():
                self.full(op)
            case ops.IndexOp():
                self.index(op)
            case ops.MapOp():
                self.map(op)
            case ops.BroadcastOp():
                self.values[op.y] = [
                    [self.pick(op.x, r, q) for r, q in row] for row in self.each(op.y)
                ]
            case ops.ConvertOp():
                self.convert(op)
            case ops.ReduceOp():
                self.reduce(op)
            case ops.DotOp():
                self.dot(op)
            case _:
                raise AssertionError(f"{op.name} has no C form")

    def loop(self, op: ops.ForOp) -> None:
        carried: list[list[list[str]]] = []
        for value, argument in zip(op.carried, op.body.block.args, strict=True):
            t, name = carrier(tile_of(value).dtype).name, self.fresh()
            regs = [
                [f"{name}_{r}_{q}" for q in range(len(row))]
                for r, row in enumerate(self.vectors(value))
            ]
            for row, source in zip(regs, self.vectors(value), strict=True):
                for reg, start in zip(row, source, strict=True):
                    self.line(f"v_{t} {reg} = {start};")
            self.values[argument] = regs
            carried.append(regs)
        names = self.names()
        for position, operand in enumerate(op.indices):
            assert self.shape(operand) == (1, 1), "a loop runs as often for all lanes"
            names[f"_at{position}"] = f"{self.pick(operand, 0, 0)}[0]"
        lo, hi, step = (c_expr(e, names) for e in op.range.data)
        iv = op.symbol.name
        self.open(f"for (i64 {iv} = {lo}; {iv} < {hi}; {iv} += {step}) {{")
        self.body(op.body.block)
        last = op.body.block.last_op
        assert isinstance(last, ops.YieldOp), "a loop body ends in tile.yield"
        self.assign(carried, [self.vectors(v) for v in last.values], last.values)
        self.close()
        for result, regs in zip(op.ys, carried, strict=True):
            self.values[result] = regs

    def assign(
        self,
        carried: Sequence[list[list[str]]],
        following: Sequence[list[list[str]]],
        values: Sequence[SSAValue],
    ) -> None:
        """Assign all next values at once: a rotation must not read what it just wrote."""
        targets = {reg for regs in carried for row in regs for reg in row}
        pairs: list[tuple[str, str]] = []
        for regs, rows, value in zip(carried, following, values, strict=True):
            t = carrier(tile_of(value).dtype).name
            for row, source in zip(regs, rows, strict=True):
                for reg, text in zip(row, source, strict=True):
                    if text in targets and text != reg:
                        name = self.fresh()
                        self.line(f"const v_{t} {name} = {text};")
                        text = name
                    if text != reg:
                        pairs.append((reg, text))
        for reg, text in pairs:
            self.line(f"{reg} = {text};")

    # Tiles

    def shape(self, value: SSAValue) -> tuple[int, int]:
        shape = tile_of(value).shape
        assert len(shape) == 2, f"a CPU tile has rows and columns, not {shape}"
        return shape[0], shape[1]

    def width(self, columns: int) -> int:
        """Vectors per row."""
        assert columns == 1 or columns % self.device.lanes == 0, f"{columns} columns"
        return max(1, columns // self.device.lanes)

    def vectors(self, value: SSAValue) -> list[list[str]]:
        return self.values[value]

    def define(self, value: SSAValue, rows: list[list[str]]) -> None:
        """Name the vectors of a new tile."""
        t, name = carrier(tile_of(value).dtype).name, self.fresh()
        regs: list[list[str]] = []
        for r, row in enumerate(rows):
            regs.append([])
            for q, text in enumerate(row):
                reg = f"{name}_{r}_{q}"
                self.line(f"const v_{t} {reg} = {text};")
                regs[-1].append(reg)
        self.values[value] = regs

    def each(self, value: SSAValue) -> list[list[tuple[int, int]]]:
        rows, columns = self.shape(value)
        return [[(r, q) for q in range(self.width(columns))] for r in range(rows)]

    def pick(self, value: SSAValue, r: int, q: int) -> str:
        """The vector at a position, broadcast along sizes of 1."""
        rows = self.vectors(value)
        row = rows[r if len(rows) > 1 else 0]
        return row[q if len(row) > 1 else 0]

    def access(
        self,
        op: ops.LoadOp | ops.StoreOp,
        tile: SSAValue,
        r: int,
        q: int,
    ) -> Access:
        spec = buffer_of(op.buffer)
        column = q * self.device.lanes
        flat = access.substitute_lanes(spec.flat(op.index.data), r, column)
        pairs = [
            (access.substitute_lanes(e, r, column), access.substitute_lanes(n, r, column))
            for e, n in bounds_of(op)
        ]
        tiles: dict[str, str] = {}
        names = self.names()
        for position, operand in enumerate(op.indices):
            reg = self.pick(operand, r, q)
            if self.shape(operand)[1] == 1:
                names[f"_at{position}"] = f"{reg}[0]"
            else:
                tiles[f"_at{position}"] = reg + "[{lane}]"
        lanes = [s for s in flat.symbols() if lane_axis(s) == 1]
        lanes += [s for e, n in pairs for s in e.symbols() | n.symbols() if lane_axis(s) == 1]
        return Access(
            self.pointers[op.buffer],
            spec.dtype,
            flat,
            access.pruned(pairs),
            lanes[0] if lanes else None,
            names,
            tiles,
            self.device.lanes,
        )

    def load(self, op: ops.LoadOp) -> None:
        """Load a tile now, or, when only products read its rows as scalars, where they do."""
        if self.shape(op.y)[1] == 1 and all(
            isinstance(u.operation, ops.DotOp) and u.operation.a is op.y for u in op.y.uses
        ):
            self.late[op.y] = op
            return
        self.load_now(op)

    def load_now(self, op: ops.LoadOp) -> None:
        t = carrier(tile_of(op.y).dtype).name
        fill = float(op.fill.data)
        rows: list[list[str]] = []
        for row in self.each(op.y):
            rows.append([])
            for r, q in row:
                at = self.access(op, op.y, r, q)
                if self.shape(op.y)[1] == 1 or (at.column is None and not at.tiles):
                    rows[-1].append(f"v_splat_{t}({access.load_scalar(at, fill)})")
                else:
                    rows[-1].append(access.load_vector(at, fill))
        self.define(op.y, rows)

    def store(self, op: ops.StoreOp) -> None:
        for row in self.each(op.value):
            for r, q in row:
                at = self.access(op, op.value, r, q)
                value = self.pick(op.value, r, q)
                single = self.shape(op.value)[1] == 1
                lines = access.store_scalar(at, value) if single else access.store_vector(at, value)
                for line in lines:
                    self.line(line)

    def full(self, op: ops.FullOp) -> None:
        t = carrier(tile_of(op.y).dtype)
        text = f"v_splat_{t.name}({literal(op.value.data, t)})"
        self.define(op.y, [[text for _ in row] for row in self.each(op.y)])

    def index(self, op: ops.IndexOp) -> None:
        lanes = self.device.lanes
        rows: list[list[str]] = []
        for row in self.each(op.y):
            rows.append([])
            for r, q in row:
                expr = access.substitute_lanes(op.expr.data[0], r, q * lanes)
                rows[-1].append(self.index_vector(op, expr, r, q))
        self.define(op.y, rows)

    def index_vector(self, op: ops.IndexOp, expr: Expr, r: int, q: int) -> str:
        lane = next((s for s in expr.symbols() if lane_axis(s) == 1), None)
        if not op.indices:
            if lane is None:
                return f"v_splat_i64({self.text(expr)})"
            if expr.coefficient(lane) == 1:
                return f"v_iota_i64({self.text(expr.substitute({lane: 0}))})"
        elements: list[str] = []
        for i in range(self.device.lanes):
            names = self.names()
            for position, operand in enumerate(op.indices):
                at = 0 if self.shape(operand)[1] == 1 else i
                names[f"_at{position}"] = f"{self.pick(operand, r, q)}[{at}]"
            value = expr if lane is None else expr.substitute({lane: as_expr(i)})
            elements.append(c_expr(value, names))
        return f"(v_i64){{{', '.join(elements)}}}"

    def map(self, op: ops.MapOp) -> None:
        fn = op.fn.data
        dtype = tile_of(op.xs[-1]).dtype
        t = carrier(dtype)
        rows: list[list[str]] = []
        for row in self.each(op.y):
            rows.append([])
            for r, q in row:
                args = [self.pick(x, r, q) for x in op.xs]
                if fn == "not":
                    text = functions.not_text(args[0], t, dtype is dtypes.boolean)
                else:
                    text = functions.map_text(fn, args, t, SCALARS[fn].returns_bool)
                rows[-1].append(text)
        self.define(op.y, rows)

    def convert(self, op: ops.ConvertOp) -> None:
        source, to = tile_of(op.x).dtype, tile_of(op.y).dtype
        rows = [
            [self.converted(self.pick(op.x, r, q), source, to, bool(op.saturate.data)) for r, q in row]
            for row in self.each(op.y)
        ]
        self.define(op.y, rows)

    def converted(self, text: str, source: DType, to: DType, saturate: bool) -> str:
        a, b = carrier(source), carrier(to)
        if to is dtypes.boolean:
            return f"v_bool_{a.name}(v_ne_{a.name}({text}, v_zero_{a.name}()))"
        wide = functions.convert_text(text, a, b, saturate)
        if b is to:
            return wide
        suffix = "_sat" if saturate else ""
        return f"v_round_to_{to.name}{suffix}({wide})"

    def reduce(self, op: ops.ReduceOp) -> None:
        fn, t = op.fn.data, carrier(tile_of(op.x).dtype)
        rows = self.vectors(op.x)
        if op.axis.data == 0:
            total = rows[0]
            for row in rows[1:]:
                total = [functions.combine_text(fn, a, b, t) for a, b in zip(total, row, strict=True)]
            self.define(op.y, [total])
            return
        if self.shape(op.x)[1] == 1:
            self.values[op.y] = rows
            return
        results: list[list[str]] = []
        for row in rows:
            total = row[0]
            for other in row[1:]:
                total = functions.combine_text(fn, total, other, t)
            results.append([f"v_splat_{t.name}({functions.horizontal_text(fn, total, t)})"])
        self.define(op.y, results)

    def dot(self, op: ops.DotOp) -> None:
        """One step of a product, row by row: a row's scalar is loaded right before its use, so
        that it needs one register and the accumulators keep theirs."""
        t = carrier(tile_of(op.acc).dtype).name
        assert self.shape(op.a)[1] == 1, "a CPU product takes one step of k at a time"
        late, name = self.late.get(op.a), self.fresh()
        regs: list[list[str]] = []
        for row in self.each(op.y):
            regs.append([])
            for r, q in row:
                if late is not None and q == 0:
                    at = self.access(late, late.y, r, 0)
                    scalar = access.load_scalar(at, float(late.fill.data))
                    self.line(f"const v_{t} {name}_a{r} = v_splat_{t}({scalar});")
                a = f"{name}_a{r}" if late is not None else self.pick(op.a, r, 0)
                value = self.fma(a, self.pick(op.b, 0, q), self.pick(op.acc, r, q), t)
                self.line(f"const v_{t} {name}_{r}_{q} = {value};")
                regs[-1].append(f"{name}_{r}_{q}")
        self.values[op.y] = regs

    def fma(self, a: str, b: str, c: str, t: str) -> str:
        if t in ("f32", "f64"):
            return f"v_fma_{t}({a}, {b}, {c})"
        return f"v_add_{t}({c}, v_mul_{t}({a}, {b}))"


def _only_parallel(block: Block) -> ops.ForOp | None:
    """The parallel loop that is all a body holds, if so."""
    inside = [op for op in block.ops if not isinstance(op, ops.YieldOp)]
    if len(inside) == 1 and isinstance(inside[0], ops.ForOp) and inside[0].kind.data == "parallel":
        return inside[0]
    return None


def d_name(symbol: str) -> str:
    """The C name of a dimension symbol, apart from every loop variable."""
    return f"dim_{symbol}"

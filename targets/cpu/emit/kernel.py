"""One tile program as one C file: task functions, and the function that runs them in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation

from tapeout.ir.expr import Expr, Symbol, bounds, symbol
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import buffer_of
from tapeout.ir.tile.segments import Segment, segments
from tapeout.ir.tile.types import BufferType
from tapeout.ir.types import ExprsAttr
from tapeout.targets.cpu.device import Device
from tapeout.targets.cpu.emit.body import Body
from tapeout.targets.cpu.emit.memory import Memory
from tapeout.targets.cpu.emit.registers import Registers
from tapeout.targets.cpu.emit.scratch import Places, Scratch
from tapeout.targets.cpu.emit.writer import Writer
from tapeout.targets.host.text import c_expr, c_factor, c_size, dim_name

__all__ = ["KernelText", "Scratch", "emit_kernel"]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class KernelText:
    """The C file of a kernel and what calling it takes."""

    name: str
    source: str
    scratch: Scratch

    @property
    def scratch_bytes(self) -> int:
        """Bytes of memory of its own that each thread needs."""
        return self.scratch.fixed_bytes

    @property
    def extra(self) -> Sequence[Expr]:
        """Bytes of arena buffers: shared scratch, then a copy per thread of symbolic scratch."""
        threads = symbol("_threads", 1)
        return [*self.scratch.shared, *(size * threads for size in self.scratch.per_thread)]


def emit_kernel(program: ops.ProgramOp, device: Device, slots: Mapping[str, int]) -> KernelText:
    """Print one program; ``slots`` are the positions of dimension symbols in ``session->dims``."""
    return _File(program, device, slots).print()


class _File:
    def __init__(self, program: ops.ProgramOp, device: Device, slots: Mapping[str, int]) -> None:
        self.program, self.slots = program, slots
        self.name: str = program.sym_name.data
        self.names = {name: dim_name(name) for name in slots}
        self.places = Places(program)
        self.out = Writer()
        self.regs = Registers(self.out, device.lanes)

    def print(self) -> KernelText:
        parts = segments(self.program)
        functions = [line for i, part in enumerate(parts) for line in (*self.part(i, part), "")]
        head = [*self.header(), '#include "kernel.h"', ""]
        text = "\n".join([*head, *functions, *self.entry(parts), ""])
        return KernelText(self.name, text, self.places.scratch())

    def header(self) -> Iterator[str]:
        """A comment that says what the kernel computes, and on what."""
        yield f"/* {self.program.title.data}"
        yield " *"
        for position, value in enumerate(self.places.arguments):
            buffer, name = buffer_of(value), self.places.pointers[value]
            dims = ", ".join(map(str, buffer.dims))
            way = "read" if position < self.places.inputs else "written"
            yield f" * {name}: {buffer.dtype} [{dims}], {way}"
        yield " */"

    def entry(self, parts: Sequence[Segment]) -> Iterator[str]:
        """The function that hands the parts to the thread pool, one after the other."""
        yield f"void RT_NAME({self.name})(rt_session *s, void *const *b)"
        yield "{"
        yield from self.dims([self.program])
        yield "  to_call call = {s, b};"
        for i, part in enumerate(parts):
            tasks = c_expr(part.tasks, self.names)
            yield (
                f"  to_run(s, {self.name}_part{i}, &call, "
                f"{tasks} /* tasks */, {self.work()} /* operations */);"
            )
        yield "}"

    def work(self) -> str:
        """The program's work; without an estimate it is worth spreading."""
        value: Expr = self.program.work.data[0]
        known = {s.name for s in value.symbols()} <= set(self.slots)
        if not known:
            return "INT64_MAX"
        most = bounds(value)[1]
        # Sizes without a limit may lead to more operations than can be counted.
        written = c_size if most is None or most > INT64_MAX else c_expr
        return written(value, self.names)

    def dims(self, used: Iterable[Operation]) -> Iterator[str]:
        """Declarations of the dimensions that occur in operators."""
        names = sorted({s.name for op in used for s in _symbols(op)} & self.slots.keys())
        for name in names:
            yield f"  const i64 {dim_name(name)} = s->dims[{self.slots[name]}];"
        if names:
            yield f"  {', '.join(f'(void){dim_name(name)}' for name in names)};"

    def part(self, number: int, segment: Segment) -> Iterator[str]:
        """The task function of a segment."""
        yield f"static void {self.name}_part{number}(void *p, i64 begin, i64 end, int thread)"
        yield "{"
        yield "  rt_session *const s = ((to_call *)p)->session;"
        yield "  void *const *const b = ((to_call *)p)->buffers;"
        yield "  (void)s, (void)thread;"
        yield from self.dims(segment.body)
        for line in self.places.declarations(segment.used, self.names):
            yield "  " + line
        yield from self.statements(segment)
        yield "}"

    def statements(self, segment: Segment) -> list[str]:
        """The tasks from ``begin`` to ``end``, or the one task there is."""
        self.out.lines = []
        body = Body(self.regs, Memory(self.regs, self.places.pointers, self.names))
        if not segment.loops:
            self.out.line("(void)begin, (void)end;")
            for op in segment.body:
                body.operator(op)
            return self.out.lines
        self.out.open("for (i64 task = begin; task < end; task++) {")
        for name, value in self.variables(segment):
            self.out.line(f"const i64 {name} = {value};")
        body.block(segment.loops[-1].body.block)
        self.out.close()
        return self.out.lines

    def variables(self, segment: Segment) -> Iterator[tuple[str, str]]:
        """The variable of each parallel loop, from the number of the task."""
        rest = "task"
        for position, loop in enumerate(segment.loops):
            below = Segment((), segment.loops[position + 1 :]).tasks
            # Below loops of one iteration nothing is left to number.
            at, rest = rest, "0"
            if below != 1:
                count = c_factor(below, self.names)
                at, rest = f"({at} / {count})", f"({at} % {count})"
            lo, _, step = loop.range.data
            value = at if step == 1 else f"{at} * {c_factor(step, self.names)}"
            yield (
                loop.symbol.name,
                value if lo == 0 else f"{c_expr(lo, self.names)} + {value}",
            )


def _symbols(op: Operation) -> set[Symbol]:
    """Every symbol in the expressions and buffer types of an operator and those inside of it."""
    found: set[Symbol] = set()
    for inner in op.walk():
        exprs = [e for a in inner.properties.values() if isinstance(a, ExprsAttr) for e in a.data]
        for value in (*inner.operands, *inner.results):
            if isinstance(value.type, BufferType):
                exprs.extend(value.type.data.dims)
        found.update(s for e in exprs for s in e.symbols())
    return found

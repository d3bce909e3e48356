"""One tile program as Triton functions: a function for each nest of parallel loops.

An iteration of a nest is one program of a grid. Scratch that is local to an iteration is a part,
of its own, of a buffer in device memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr, Symbol, is_less, product
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import buffer_of
from tapeout.ir.tile.segments import Segment, segments
from tapeout.ir.types import ExprsAttr
from tapeout.targets.gpu.emit.body import Body
from tapeout.targets.gpu.emit.text import dim_name, pointee, py_factor

PRELUDE = Path(__file__).with_name("prelude.py").read_text()
"""What every emitted file begins with."""

FAR = 2**31 - 2**20
"""Elements of a buffer from which on places in it are of 64 bits, lanes beyond its end included."""


@dataclass(frozen=True)
class Use:
    """What a function does with a buffer of ``bytes``; what ``scratch`` holds is its kernel's.

    ``begins``: the operand that a result begins as, whose memory it may have.
    """

    bytes: Expr
    reads: bool
    writes: bool
    scratch: bool
    begins: str


@dataclass(frozen=True)
class Part:
    """One function, of which ``programs`` run side by side.

    ``signature``: its arguments in order, buffers by name and then dimensions as ``dim_NAME``, each
    with the type that Triton gives it. ``dims`` are the names of the dimensions, ``uses`` what it
    does with each buffer.
    """

    name: str
    source: str
    signature: Mapping[str, str]
    programs: Expr
    dims: Mapping[str, str]
    uses: Mapping[str, Use]


@dataclass(frozen=True)
class Scratch:
    """A buffer that a kernel has beside its arguments."""

    name: str
    dtype: DType
    elements: Expr


@dataclass(frozen=True)
class KernelText:
    """The functions of a tile program, in the order in which they run, and their scratch.

    ``arguments`` name the buffers that it is called with, before its scratch.
    """

    name: str
    title: str
    arguments: Sequence[str]
    parts: Sequence[Part]
    scratch: Sequence[Scratch]

    @property
    def buffers(self) -> Sequence[str]:
        """Every buffer that it is called with."""
        return [*self.arguments, *(s.name for s in self.scratch)]

    @property
    def extra(self) -> Sequence[Expr]:
        """Bytes of its scratch."""
        return [s.elements * s.dtype.bytes for s in self.scratch]

    @property
    def scratch_bytes(self) -> int:
        """Bytes for each thread of the host."""
        return 0


def emit_kernel(program: ops.ProgramOp) -> KernelText:
    """A tile program in Triton; E0403 for what has no form there."""
    return _Kernel(program).text()


class _Kernel:
    def __init__(self, program: ops.ProgramOp) -> None:
        self.program, self.segments = program, segments(program)
        arguments = program.body.block.args
        self.names: dict[SSAValue, str] = dict(zip(arguments, program.names.data, strict=True))
        names, outputs = program.names.data, program.outputs.data
        pairs = zip(names[len(names) - outputs :], program.begun, strict=True)
        self.begun = {name: names[operand] for name, operand in pairs if operand >= 0}
        self.scratch: list[Scratch] = []
        self.private: set[SSAValue] = set()
        for op in program.body.walk():
            if isinstance(op, ops.AllocOp):
                self.allocate(op.buffer)

    def allocate(self, buffer: SSAValue) -> None:
        spec, name = buffer_of(buffer), f"s{len(self.scratch)}"
        elements = product(spec.dims)
        if spec.space == "local":
            self.private.add(buffer)
            elements *= next(s.tasks for s in self.segments if buffer in s.used)
        self.names[buffer] = name
        self.scratch.append(Scratch(name, spec.dtype, elements))

    def text(self) -> KernelText:
        name = self.program.sym_name.data
        several = len(self.segments) > 1
        parts = [
            self.part(f"{name}_{i}" if several else name, segment)
            for i, segment in enumerate(self.segments)
        ]
        arguments = list(self.program.names.data)
        return KernelText(name, self.program.title.data, arguments, parts, self.scratch)

    def part(self, name: str, segment: Segment) -> Part:
        used = {value: own for value, own in self.names.items() if value in segment.used}
        far = any(not is_less(product(buffer_of(v).dims), FAR) for v in used)
        dims = {s.name: dim_name(s.name) for s in sorted(_dimensions(segment), key=str)}
        signature = {own: f"*{pointee(buffer_of(v).dtype)}" for v, own in used.items()}
        signature |= dict.fromkeys(dims.values(), "i64" if far else "i32")
        bases = dict(used)
        body = Body(bases, dims, frozenset(self.private))
        body.line(f"pid = tl.program_id(0){'.to(tl.int64)' if far else ''}")
        for value in (v for v in used if v in self.private):
            each = py_factor(product(buffer_of(value).dims), dims)
            bases[value] = f"own_{used[value]}"
            body.line(f"{bases[value]} = {used[value]} + pid * {each}")
        for loop, value in _variables(segment, dims):
            body.line(f"{loop} = {value}")
        if segment.loops:
            body.block(segment.loops[-1].body.block)
        else:
            for op in segment.body:
                body.operator(op)
        head = ["@triton.jit", f"def {name}({', '.join(signature)}):"]
        doc = f'    """{self.program.title.data}"""'
        source = "\n".join([*head, doc, *body.lane_lines(), *body.lines, ""])
        uses = {own: self.use(value, own, segment) for value, own in used.items()}
        names = {own: symbol for symbol, own in dims.items()}
        return Part(name, source, signature, segment.tasks, names, uses)

    def use(self, buffer: SSAValue, name: str, segment: Segment) -> Use:
        inner = [op for part in segment.body for op in part.walk()]
        reads = any(isinstance(op, ops.LoadOp) and op.buffer is buffer for op in inner)
        writes = any(isinstance(op, ops.StoreOp) and op.buffer is buffer for op in inner)
        held = {s.name: s.elements * s.dtype.bytes for s in self.scratch}
        size = held.get(name, buffer_of(buffer).bytes)
        return Use(size, reads, writes, name in held, self.begun.get(name, ""))


def _variables(segment: Segment, dims: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The variable of each loop of a nest from the number of the program, innermost first."""
    outermost = next((n for n, count in enumerate(segment.trips) if count != 1), 0)
    pairs = list(zip(segment.loops, segment.trips, strict=True))
    for position, (loop, trips) in reversed(list(enumerate(pairs))):
        lo, _, step = loop.range.data
        count = py_factor(trips, dims)
        at = "0" if trips == 1 else "pid" if position == outermost else f"pid % {count}"
        if step != 1 and at != "0":
            at = f"{at} * {py_factor(step, dims)}"
        yield loop.symbol.name, at if lo == 0 else f"{py_factor(lo, dims)} + {at}"
        if position > outermost and trips != 1:
            yield "pid", f"pid // {count}"


def _dimensions(segment: Segment) -> set[Symbol]:
    """The symbols of dimensions that a function reads."""
    found: set[Symbol] = set()
    own: set[str] = set()
    for op in (inner for part in segment.body for inner in part.walk()):
        if isinstance(op, ops.ForOp):
            own.add(op.symbol.name)
        exprs = [e for a in op.properties.values() if isinstance(a, ExprsAttr) for e in a.data]
        for value in (*op.operands, *op.results):
            if isinstance(value.type, ops.BufferType):
                exprs.extend(value.type.data.dims)
        found.update(s for e in exprs for s in e.symbols())
    return {s for s in found if s.name not in own and not s.name.startswith("_")}

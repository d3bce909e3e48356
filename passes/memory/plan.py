"""From a module of kernel calls to a tree of steps over buffers.

Reshapes cost nothing: their result is the operand's buffer. Everything else that a step writes
is a buffer of its own: an output's, or one in the arena, alive from the step that writes it to
the last one that reads it. What a branch or a loop body returns is written where its reader
expects it, if a kernel of that very block makes it; else it is copied there.

Sizes that data decides. A kernel with an operator of ``DECIDES`` is lowered to two programs
(``kernel_io.Lowered``): ``count`` writes the sizes, and what it found on the way, to buffers of
known size; then the symbols are bound (``BindStep``), the results get memory of their exact size
(``rt_late``, or ``rt_output``), and ``program`` fills them. So no kernel ever writes to a buffer
of an upper bound, and to the kernel that fills, the decided size is a dimension like any other.

Loops. A carried value has two buffers, one that an iteration reads and one that it writes; they
change places after it. What was made outside of a loop and is read inside lives to its end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, Symbol, as_expr, as_symbol
from tapeout.ir.guards import Guard, block_guards, op_guards
from tapeout.ir.module import Module
from tapeout.ir.ops.source import BindDimsOp, ConstantOp, DimValuesOp, IotaOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, LoopOp, ReturnOp
from tapeout.ir.ops.views import ReshapeOp
from tapeout.ir.types import spec
from tapeout.passes.memory.checks import Checks
from tapeout.passes.memory.in_place import changes_in_place
from tapeout.passes.memory.late import bound_by, callee, late_symbols, share_slots
from tapeout.passes.memory.steps import (
    BindStep,
    Buffer,
    CheckStep,
    CopyStep,
    IfStep,
    KernelStep,
    Kind,
    Life,
    LoopStep,
    MemoryStep,
    Plan,
    SizesStep,
    Step,
)
from tapeout.passes.tile.kernel_io import decided

I64_BYTES = 8


@dataclass(frozen=True)
class Needs:
    """Bytes of the buffers that a program takes behind those of its kernel.

    ``state``: what a count program hands on, without the sizes. ``scratch``: of either program.
    ``begins``: for each result the operand that its memory holds beforehand, or -1.
    """

    scratch: Sequence[Expr] = ()
    count_scratch: Sequence[Expr] = ()
    state: Sequence[Expr] = ()
    begins: Sequence[int] = ()


def make_plan(module: Module, entry: EntryOp, needs: Mapping[str, Needs]) -> Plan:
    """The plan of one entry; ``needs`` says by kernel what its programs take besides."""
    return _Planner(module, entry, needs).run()


class _Planner:
    def __init__(self, module: Module, entry: EntryOp, needs: Mapping[str, Needs]) -> None:
        self.module, self.entry, self.needs = module, entry, needs
        self.plan = Plan()
        self.steps: list[Step] = self.plan.steps
        self.now = 0
        self.late = {s.name for s in late_symbols(entry)}
        # Outputs of sizes that data decides.
        self.open = {
            i for i, v in enumerate(entry.returned) if any(map(self.is_late, spec(v).dims))
        }
        self.late_buffers: list[Buffer] = []
        self.bound: set[str] = set()
        self.buffers: dict[SSAValue, Buffer] = {}
        # Where a value is to be written, when its block's reader has a place for it.
        self.targets: dict[SSAValue, Buffer] = {}
        # Lives that the open loops read from outside, and how many loops there were.
        self.kept: list[list[Life]] = []
        self.loops = 0
        self.checks = Checks(self.late)
        # Results that are written to the memory of the state that they begin as.
        self.in_place: set[SSAValue] = set()

    def run(self) -> Plan:
        block, returned = self.entry.body.block, self.entry.returned
        for i, value in enumerate(block.args):
            self.buffers[value] = Buffer("input", i, spec(value).bytes)
        states = len(self.entry.state_names)
        first = len(returned) - states
        for old, new in zip(block.args[len(block.args) - states :], returned[first:], strict=True):
            self.in_place |= changes_in_place(old, new, self.needs, self.entry)
        outputs = [Buffer("output", i, spec(v).bytes) for i, v in enumerate(returned[:first])]
        places = [self.buffers[v] for v in block.args[len(block.args) - states :]]
        self.block(block, returned, [*outputs, *places])
        self.plan.late = share_slots(self.late_buffers)
        self.plan.guards = self.checks.early
        return self.plan

    # Blocks

    def block(
        self, block: Block, values: Sequence[SSAValue], places: Sequence[Buffer | None]
    ) -> None:
        """Plan a block whose results ``values`` are to be found in ``places`` at its end."""
        for value, place in zip(values, places, strict=True):
            if place is not None and self.can_write(block, value, place):
                self.targets[self.origin(value)] = place
        for op in block.ops:
            self.operator(op)
        for value, place in zip(values, places, strict=True):
            if place is not None and place.kind == "input":
                self.rescue(value, place)
        for value, place in zip(values, places, strict=True):
            if place is not None:
                self.deliver(value, place)

    def rescue(self, value: SSAValue, place: Buffer) -> None:
        """Keep what lies in the memory of another state, before that is written to."""
        source = self.read(value)
        if source.kind == "input" and source is not place:
            kept = self.scratch(spec(value).bytes)
            self.add(CopyStep(self.read(value), kept, spec(value).bytes))
            self.buffers[value] = kept

    def can_write(self, block: Block, value: SSAValue, place: Buffer) -> bool:
        """Whether what makes ``value`` in this block may write it to ``place`` right away."""
        origin = self.origin(value)
        owner = origin.owner
        if place.kind == "input":
            return False  # a state may still be read: it is written at the end, or in place
        if origin in self.targets or not isinstance(owner, Operation) or owner.parent is not block:
            return False
        if place.kind == "output" and place.number in self.open:
            # The output's shape must be bound when its kernel runs.
            same = spec(value).dims == spec(origin).dims
            return isinstance(owner, CallOp) and same
        fits = place.kind == "late" or spec(origin).size == spec(value).size
        return isinstance(owner, CallOp | IfOp | LoopOp | DimValuesOp) and fits

    def deliver(self, value: SSAValue, place: Buffer) -> None:
        """Copy a result to its place, unless it was written there."""
        source = self.read(value)
        if source is not place:
            size = spec(value).bytes
            self.memory(place, size)
            self.read(value)
            self.write(place)
            self.add(CopyStep(source, place, size))

    def operator(self, op: Operation) -> None:
        if not isinstance(op, CallOp):
            self.check(op_guards(op))
        match op:
            case WeightOp() | ConstantOp() | IotaOp() | ReturnOp():
                pass
            case DimValuesOp():
                self.sizes(op)
            case ReshapeOp():
                self.reshape(op)
            case BindDimsOp():
                self.bind(op)
            case CallOp():
                self.call(op)
            case IfOp():
                self.branch(op)
            case LoopOp():
                self.loop(op)
            case _:
                raise CompileError(
                    "E0402",
                    f"{op.name} has no lowering to this target yet",
                    fix="see `tapeout explain`",
                )

    def check(self, relied_on: Iterable[Guard]) -> None:
        """Have the guards checked that the steps to come rely on."""
        for each in self.checks.missing(relied_on):
            self.add(CheckStep(each, self.checks.is_late(each)))

    def add(self, step: Step) -> None:
        self.steps.append(step)
        self.now += 1

    @contextmanager
    def into(self, steps: list[Step]) -> Generator[None]:
        """Append to another list of steps."""
        outer, self.steps = self.steps, steps
        yield
        self.steps = outer

    # Buffers

    def origin(self, value: SSAValue) -> SSAValue:
        """The value whose memory a chain of reshapes shows."""
        while isinstance(value.owner, ReshapeOp):
            value = value.owner.x
        return value

    def is_late(self, size: Expr) -> bool:
        return any(s.name in self.late for s in size.symbols())

    def new(self, size: Expr, life: Life | None = None, kind: Kind | None = None) -> Buffer:
        """A buffer that is alive from now on; a late one still has no memory."""
        life = life or Life(self.now, self.now, len(self.kept))
        kind = kind or ("late" if self.is_late(size) else "arena")
        pool = self.late_buffers if kind == "late" else self.plan.arena
        buffer = Buffer(kind, len(pool), size, life=life)
        pool.append(buffer)
        return buffer

    def memory(self, buffer: Buffer, size: Expr) -> None:
        """Have memory for a late buffer, or for an output of late size, before it is written."""
        if buffer.kind == "late" or (buffer.kind == "output" and buffer.number in self.open):
            self.write(buffer)
            self.add(MemoryStep(buffer, size))

    def result(self, value: SSAValue) -> Buffer:
        """Where the step that follows writes ``value``: memory that is ready."""
        buffer = self.targets.get(value) or self.new(spec(value).bytes)
        self.memory(buffer, spec(value).bytes)
        self.write(buffer)
        self.buffers[value] = buffer
        return buffer

    def scratch(self, size: Expr) -> Buffer:
        buffer = self.new(size)
        self.memory(buffer, size)
        return self.write(buffer)

    def read(self, value: SSAValue) -> Buffer:
        """The buffer of a value, which the step that follows reads."""
        return self.write(self.buffer(value))

    def buffer(self, value: SSAValue) -> Buffer:
        if isinstance(value.owner, WeightOp) and value not in self.buffers:
            self.buffers[value] = self.weight(value.owner)
        assert value in self.buffers, f"{value.owner} has no memory"
        return self.buffers[value]

    def write(self, buffer: Buffer) -> Buffer:
        """Have a buffer be alive at the step that follows, and to the end of loops around it."""
        life = buffer.life
        life.last = max(life.last, self.now)
        if life.depth < len(self.kept):
            self.kept[life.depth].append(life)
        return buffer

    def weight(self, op: WeightOp) -> Buffer:
        name = op.symbol.data
        if name not in self.plan.weights:
            self.plan.weights.append(name)
        return Buffer("weight", self.plan.weights.index(name), spec(op.y).bytes, name)

    # Operators

    def call(self, op: CallOp) -> None:
        name, kernel = op.callee.data, callee(self.entry, op)
        needs, symbols = self.needs.get(name, Needs()), decided(kernel)
        relied_on = list(block_guards(kernel.body.block.ops))
        self.check(g for g in relied_on if not set(symbols) & set(g.symbols))
        state: list[Buffer] = []
        if symbols:
            state = [self.scratch(size) for size in needs.state]
            counts = self.scratch(as_expr(I64_BYTES * len(symbols)))
            extra = [self.scratch(size) for size in needs.count_scratch]
            operands = [self.read(v) for v in op.args]
            self.add(KernelStep(f"{name}_count", (*operands, *state, counts, *extra)))
            self.bind_to(tuple(symbols), self.write(counts))
            self.check(g for g in relied_on if set(symbols) & set(g.symbols))
        begins = needs.begins or (-1,) * len(op.results)
        results = [self.begun(op, v, b) for v, b in zip(op.results, begins, strict=True)]
        extra = [self.scratch(size) for size in needs.scratch]
        # Memory for a late buffer is a step of its own: whatever was made before it stays alive.
        made = [*(self.read(v) for v in op.args), *map(self.write, (*state, *results, *extra))]
        self.add(KernelStep(name, tuple(made)))

    def begun(self, op: CallOp, value: SSAValue, operand: int) -> Buffer:
        """Where a call writes a result, with the contents that it expects there."""
        if operand < 0:
            return self.result(value)
        if value in self.in_place:
            self.buffers[value] = self.read(op.args[operand])
            return self.buffers[value]
        buffer = self.result(value)
        self.add(CopyStep(self.read(op.args[operand]), buffer, spec(value).bytes))
        return self.write(buffer)

    def sizes(self, op: DimValuesOp) -> None:
        """A vector of sizes takes memory only where somebody reads it as a tensor."""
        if any(not isinstance(u.operation, BindDimsOp) for u in op.y.uses):
            self.add(SizesStep(op.values.data, self.result(op.y)))

    def reshape(self, op: ReshapeOp) -> None:
        if op.y.uses:
            self.buffers[op.y] = self.buffer(op.x)

    def bind(self, op: BindDimsOp) -> None:
        source = op.x
        exprs = self.known(source)
        self.bind_to(bound_by(op), self.read(source) if exprs is None else exprs)

    def known(self, value: SSAValue) -> tuple[Expr, ...] | None:
        """The sizes in a vector, where the graph tells them."""
        owner = self.origin(value).owner
        if isinstance(owner, DimValuesOp):
            return owner.values.data
        if isinstance(owner, ConstantOp):
            return tuple(as_expr(int(n)) for n in owner.value.data.array.reshape(-1))
        if isinstance(owner, WeightOp):
            array = self.module.weights[owner.symbol.data]
            return tuple(as_expr(int(n)) for n in array.reshape(-1))
        return None

    def bind_to(self, symbols: tuple[Symbol, ...], values: Buffer | tuple[Expr, ...]) -> None:
        self.bound |= {s.name for s in symbols}
        self.checks.bind(symbols, None if isinstance(values, Buffer) else values)
        self.add(BindStep(symbols, values))

    def branch(self, op: IfOp) -> None:
        places = [self.place(y) for y in op.ys]
        step = IfStep(self.read(op.condition), [], [])
        self.add(step)
        for region, steps in ((op.then, step.then), (op.otherwise, step.otherwise)):
            last = region.block.last_op
            assert isinstance(last, ReturnOp), "a branch ends in nn.return"
            with self.into(steps), self.checks.inside():
                self.block(region.block, last.values, places)
        for y, place in zip(op.ys, places, strict=True):
            self.buffers[y] = self.write(place)

    def place(self, value: SSAValue) -> Buffer:
        """Where a value will be; a late place gets its memory from whoever writes it."""
        return self.write(self.targets.get(value) or self.new(spec(value).bytes))

    def loop(self, op: LoopOp) -> None:
        block = op.body.block
        last = block.last_op
        assert isinstance(last, ReturnOp), "a loop body ends in nn.return"
        carried = len(op.carried)
        counter, going, *arguments = block.args
        following, *rest = last.values
        stays = [self.origin(v) is a for v, a in zip(rest[:carried], arguments, strict=True)]
        pairs = [
            None if s else self.pair(v, a)
            for s, v, a in zip(stays, op.carried, arguments, strict=True)
        ]
        for value, argument, pair in zip(op.carried, arguments, pairs, strict=True):
            self.buffers[argument] = self.read(value) if pair is None else pair[0]
        count = self.count(op)
        scans = [self.stack(y, count) for y in op.ys[carried:]]
        trips, condition = self.read(op.trips), self.read(op.condition)
        number, self.loops = self.loops, self.loops + 1
        body: list[Step] = []
        self.now += 1
        self.kept.append([])
        with self.into(body), self.checks.inside():
            numbered = self.argument(counter, as_expr(I64_BYTES))
            judged = self.argument(going, as_expr(1))
            self.block(block, rest[:carried], [p and p[1] for p in pairs])
            for value, stacked in zip(rest[carried:], scans, strict=True):
                self.slice(value, stacked, number, isinstance(count, Symbol))
            next_condition = self.read(following)
            for pair in pairs:
                if pair is not None:
                    self.write(pair[0])
        for life in self.kept.pop():
            life.last = max(life.last, self.now)
        swaps = tuple(p for p in pairs if p is not None)
        self.add(
            LoopStep(number, trips, condition, numbered, judged, body, next_condition, swaps, count)
        )
        if isinstance(count, Symbol):
            self.bound.add(count.name)
            self.checks.bind([count])
        results = [*(self.buffers[a] for a in arguments), *scans]
        for y, buffer in zip(op.ys, results, strict=True):
            self.buffers[y] = buffer

    def pair(self, value: SSAValue, argument: SSAValue) -> tuple[Buffer, Buffer]:
        """Two buffers of one life for a carried value; the first holds the initial one."""
        size = spec(argument).bytes
        life = Life(self.now, self.now, len(self.kept))
        kind = "late" if self.is_late(size) else "arena"
        pair = self.new(size, life, kind), self.new(size, life, kind)
        self.memory(pair[1], size)
        self.deliver(value, pair[0])
        return pair

    def argument(self, value: SSAValue, size: Expr) -> Buffer | None:
        """Memory for the iteration number or the condition, where the body reads it."""
        if not value.uses:
            return None
        self.buffers[value] = self.new(size)
        return self.buffers[value]

    def count(self, op: LoopOp) -> Expr | Symbol | None:
        """How many iterations there will be, or the symbol that the loop binds."""
        expr = op.count.data[0]
        bare = as_symbol(expr)
        if bare is not None and bare.name in self.late and bare.name not in self.bound:
            return bare
        return expr if op.scans.data else None

    def stack(self, value: SSAValue, count: Expr | Symbol | None) -> Buffer:
        """Where scanned slices go: all their memory now, or, for an open number, as they come."""
        if isinstance(count, Symbol):
            buffer = self.new(spec(value).bytes, kind="late")
            self.memory(buffer, as_expr(0))
            return self.write(buffer)
        return self.result(value)

    def slice(self, value: SSAValue, stacked: Buffer, loop: int, grows: bool) -> None:
        size = spec(value).bytes
        source = self.read(value)
        if grows:
            self.write(stacked)
            self.add(MemoryStep(stacked, size, loop))
        self.read(value)
        self.write(stacked)
        self.add(CopyStep(source, stacked, size, loop))

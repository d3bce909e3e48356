"""The steps of a plan as the statements of ``execute()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeout.ir.expr import Expr, ExprLike, Symbol
from tapeout.passes.memory.steps import (
    BindStep,
    Buffer,
    CheckStep,
    CopyStep,
    IfStep,
    KernelStep,
    LoopStep,
    MemoryStep,
    SizesStep,
    Step,
)
from tapeout.targets.host.guards import check_lines
from tapeout.targets.host.interface import NO_UPPER, Interface
from tapeout.targets.host.text import c_size

HELPERS = """\
/* Give a size that data decides its value, if it is one that the kernels were made for. */
static int bind_size(rt_session *s, int32_t slot, int64_t value, int64_t low, int64_t high)
{
  if (value < low || value > high)
    return rt_fail(s, RT_E_VALUE,
                   "a value in an input leads to a size that is out of range\\n"
                   "  expected: %lld to %lld\\n  got: %lld",
                   (long long)low, (long long)high, (long long)value);
  s->dims[slot] = value;
  return 0;
}

/* A loop has to turn as often as what it stacks has room for. */
static int check_turns(rt_session *s, int64_t have, int64_t want)
{
  if (have == want)
    return 0;
  return rt_fail(s, RT_E_VALUE,
                 "a loop ends before its time\\n  expected: %lld turns\\n  got: %lld",
                 (long long)want, (long long)have);
}
"""


@dataclass(frozen=True)
class StepPrinter:
    """Prints steps; ``kernels`` are places in the table of kernels, ``offsets`` of weights."""

    face: Interface
    kernels: Mapping[str, int]
    offsets: Mapping[str, int]

    def lines(self, steps: Sequence[Step], depth: int = 1) -> list[str]:
        """Statements of a list of steps."""
        return ["  " * depth + line for step in steps for line in self.step(step)]

    def step(self, step: Step) -> list[str]:
        """Statements of one step."""
        match step:
            case KernelStep():
                return self.kernel(step)
            case CopyStep():
                return [self.copy(step)]
            case MemoryStep():
                return self.memory(step)
            case BindStep():
                return self.bind(step)
            case SizesStep():
                target = self.pointer(step.target)
                return [
                    f"rt_put_i64(s, {target}, {i}, {self.size(e)});"
                    for i, e in enumerate(step.values)
                ]
            case CheckStep():
                return check_lines(step.guard, step.late, self.names, self.face.places)
            case IfStep():
                return [
                    f"if ({self.flag(step.condition)}) {{",
                    *self.lines(step.then),
                    "} else {",
                    *self.lines(step.otherwise),
                    "}",
                ]
            case LoopStep():
                return self.loop(step)

    def kernel(self, step: KernelStep) -> list[str]:
        """A call, timed while somebody profiles."""
        pointers = ", ".join(map(self.pointer, step.buffers))
        return [
            "t = rt_begin(s);",
            f"RT_NAME({step.kernel})(s, (void *const[]){{{pointers}}});",
            f"rt_end(s, {self.kernels[step.kernel]}, t);",
        ]

    def copy(self, step: CopyStep) -> str:
        """A copy, to the slice of an iteration where it belongs to a loop."""
        target, size = self.pointer(step.target), self.size(step.bytes)
        if step.loop is not None:
            target = f"(char *){target} + i{step.loop} * {size}"
        return f"rt_copy(s, {target}, {self.pointer(step.source)}, {size});"

    def memory(self, step: MemoryStep) -> list[str]:
        """Memory of a size that is known by now."""
        buffer, size = step.buffer, self.size(step.bytes)
        if buffer.kind == "output":
            _, port = self.face.outputs[buffer.number]
            sizes = [d for d in dict.fromkeys(port.dims) if d in self.face.late_derived]
            binds = [self.bind_one(self.face.slot(d), self.size(d), 0, NO_UPPER) for d in sizes]
            return [*binds, *_checked(f"rt_output(s, {buffer.number})")]
        if step.loop is None:
            return _checked(f"rt_late(s, {buffer.number}, {size})")
        i = f"i{step.loop}"
        return _checked(
            f"rt_late_keep(s, {buffer.number}, rt_mul({i} + 1, {size}), rt_mul({i}, {size}))"
        )

    def bind(self, step: BindStep) -> list[str]:
        """Values of symbols: all are read before the first is written."""
        if isinstance(step.values, Buffer):
            source = self.pointer(step.values)
            values = [f"rt_get_i64(s, {source}, {i})" for i in range(len(step.symbols))]
        else:
            values = [self.size(e) for e in step.values]
        if len(values) == 1:
            return [self.bind_symbol(step.symbols[0], values[0])]
        read = [f"  const int64_t v{i} = {text};" for i, text in enumerate(values)]
        names = (f"v{i}" for i in range(len(values)))
        binds = ["  " + self.bind_symbol(s, n) for s, n in zip(step.symbols, names, strict=True)]
        return ["{", *read, *binds, "}"]

    def bind_symbol(self, symbol: Symbol, value: str) -> str:
        """One symbol, held to its range."""
        high = NO_UPPER if symbol.hi is None else symbol.hi
        return self.bind_one(self.face.slots[symbol.name], value, symbol.lo, high)

    def bind_one(self, slot: int, value: str, low: int, high: ExprLike) -> str:
        """Bind the size in a slot, checked against its range."""
        top = self.size(high) if isinstance(high, Expr) else f"INT64_C({high})"
        return _checked(f"bind_size(s, {slot}, {value}, {low}, {top})")[0]

    def loop(self, step: LoopStep) -> list[str]:
        """Trips and condition are kept in C; what the body reads of them is in buffers."""
        k = step.number
        i, n, go = f"i{k}", f"n{k}", f"go{k}"
        head = [
            f"int64_t {n} = rt_get_i64(s, {self.pointer(step.trips)}, 0), {i} = 0;",
            f"uint8_t {go} = {self.flag(step.condition)};",
        ]
        if isinstance(step.count, Expr):
            # What is scanned has room for this many slices.
            head.append(f"{n} = rt_min({n}, {self.size(step.count)});")
        begin: list[str] = []
        if step.counter is not None:
            begin.append(f"rt_put_i64(s, {self.pointer(step.counter)}, 0, {i});")
        if step.going is not None:
            begin.append(f"rt_put_u8(s, {self.pointer(step.going)}, {go});")
        end = [f"{go} = {self.flag(step.following)};"]
        end += [self.swap(a, b) for a, b in step.swaps]
        body = [*begin, *self.lines(step.body, 0), *end]
        after: list[str] = []
        if isinstance(step.count, Expr):
            after = _checked(f"check_turns(s, {i}, {self.size(step.count)})")
        elif step.count is not None:
            after = [self.bind_symbol(step.count, i)]
        inner = [*head, f"for (; {i} < {n} && {go}; {i}++) {{", *("  " + b for b in body), "}"]
        return ["{", *("  " + line for line in [*inner, *after]), "}"]

    def swap(self, a: Buffer, b: Buffer) -> str:
        """Two buffers of one size and life change places, for good."""
        if a.kind == "late":
            return f"rt_late_swap(s, {a.number}, {b.number});"
        return f"swap(&s->buf[{a.number}], &s->buf[{b.number}]);"

    def flag(self, buffer: Buffer) -> str:
        """A bool that a kernel has written."""
        return f"rt_get_u8(s, {self.pointer(buffer)})"

    def pointer(self, buffer: Buffer) -> str:
        """Where a buffer lies, in C."""
        match buffer.kind:
            case "input":
                return f"s->in[{buffer.number}]"
            case "output":
                return f"s->out[{buffer.number}]"
            case "weight":
                return f"(void *)(s->weights + {self.offsets[buffer.symbol]})"
            case "arena":
                return f"s->buf[{buffer.number}]"
            case "late":
                return f"s->late[{buffer.number}]"

    @property
    def names(self) -> dict[str, str]:
        """Symbols as C text: they change while running, so they are read where they are used."""
        table = {name: f"s->dims[{slot}]" for name, slot in self.face.slots.items()}
        return {**table, "_threads": "s->threads"}

    def size(self, value: Expr) -> str:
        """A size, or another number of the graph; saturated where it overflows."""
        return c_size(value, self.names)


def helpers(steps: Sequence[Step]) -> str:
    """The functions that statements call; none for a program of kernels alone."""
    return "" if all(isinstance(s, KernelStep) for s in steps) else HELPERS + SWAP


SWAP = """
static inline void swap(void **a, void **b)
{
  void *const kept = *a;
  *a = *b;
  *b = kept;
}
"""


def _checked(call: str) -> list[str]:
    return [f"if ((code = {call})) return code;"]

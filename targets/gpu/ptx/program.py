"""A kernel decoded once: register slots, and basic blocks of steps.

A step is a closure over slots that acts on a :class:`~tapeout.targets.gpu.ptx.machine.Machine`.
Literals, parameters and special registers have slots too, so a step reads every operand alike.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, STORAGE, Format
from tapeout.targets.gpu.ptx.text import (
    Entry,
    Immediate,
    Instruction,
    Label,
    Module,
    Operand,
    Register,
    Symbol,
    Vector,
)

if TYPE_CHECKING:
    from tapeout.targets.gpu.ptx.machine import Machine

Array = npt.NDArray[Any]
Step = Callable[["Machine"], None]
Compute = (
    Callable[[Array], Array]
    | Callable[[Array, Array], Array]
    | Callable[[Array, Array, Array], Array]
    | Callable[[Array, Array, Array, Array], Array]
)
Decoder = Callable[["Program", Instruction], Step]

SPECIAL = {
    **{f"%{name}.{axis}": 32 for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"},
    "%laneid": 32,
    "%warpid": 32,
    "%nwarpid": 32,
    "%lanemask_eq": 32,
    "%lanemask_lt": 32,
    "%lanemask_le": 32,
    "%lanemask_gt": 32,
    "%lanemask_ge": 32,
    "%clock": 32,
    "%clock64": 64,
    "%globaltimer": 64,
    "%smid": 32,
}
"""Special registers and their width; the machine fills them."""

STRONG = {"relaxed", "acquire", "release", "volatile", "mmio"}
"""Accesses that take part in synchronisation, and so race with plain ones alone."""

ENDS = ("bra", "ret", "exit", "trap", "bar", "barrier")
"""Opcodes that end a basic block."""


@dataclass
class Block:
    """Steps that run one after another, then ``end``, and on to ``target`` or the next block.

    ``polls``: it reads memory in a way that waits for other CTAs use.
    """

    steps: list[Step] = field(default_factory=list[Step])
    end: Instruction | None = None
    target: int = -1
    guard: int = -1
    barrier: int = -1
    polls: bool = False


class Program:
    """The steps of one kernel.

    ``constants`` are slots with a value at decode time, ``parameters`` slots by name; ``addresses``
    gives variables their address, which shared memory counts from 0 in its own space.
    """

    def __init__(self, module: Module, entry: Entry, decoders: dict[str, Decoder]) -> None:
        self.entry = entry
        self.widths: list[int] = []
        self.slots: dict[str, int] = {}
        self.constants: dict[tuple[int, int], int] = {}
        self.addresses = dict[str, int]()
        self.constant_data: list[tuple[str, bytes]] = []
        self.local_bytes = 0
        self.static_shared = 0
        self.smallest = {"global": 16, "shared": 16}
        for name, kind in entry.registers.items():
            self.slots[name] = self.new_slot(1 if kind == "pred" else int(kind[1:]))
        self.parameters = {name: self.new_slot(FORMATS[t].bits) for name, t in entry.parameters}
        self.slots.update(self.parameters)
        self.carry = self.new_slot(1)
        self.place(module, entry)
        self.blocks = self.decode(decoders)

    def new_slot(self, width: int) -> int:
        """Return a new slot of ``width`` bits."""
        self.widths.append(width)
        return len(self.widths) - 1

    def place(self, module: Module, entry: Entry) -> None:
        """Give every variable an address in its space."""
        for variable in [*module.variables, *entry.variables]:
            if variable.space == "local":
                at = -(-self.local_bytes // variable.align) * variable.align
                self.local_bytes = at + variable.nbytes
                self.addresses[variable.name] = at
            elif variable.space == "shared":
                at = -(-self.static_shared // variable.align) * variable.align
                self.static_shared = at + variable.nbytes
                self.addresses[variable.name] = at
            else:
                self.constant_data.append((variable.name, variable.data))
                self.slots[variable.name] = self.new_slot(64)

    def decode(self, decoders: dict[str, Decoder]) -> list[Block]:
        """Return the basic blocks, in the order of the text."""
        blocks, labels = [Block()], dict[str, int]()
        for item in self.entry.body:
            if isinstance(item, Label):
                if blocks[-1].steps:
                    blocks.append(Block())
                labels[item.name] = len(blocks) - 1
                continue
            block = blocks[-1]
            if item.root in ENDS:
                self.finish(block, item)
                blocks.append(Block())
                continue
            if item.root not in decoders:
                raise unknown(item, f"the opcode '{item.root}'")
            step = self.step(decoders[item.root], item)
            block.polls |= item.root == "atom" or bool(STRONG & set(item.modifiers))
            block.steps.append(step)
        for block in blocks:
            if block.end is not None and block.end.root == "bra":
                target = label_of(block.end)
                if target not in labels:
                    raise unknown(block.end, f"the label '{target}'")
                block.target = labels[target]
        return blocks

    def finish(self, block: Block, last: Instruction) -> None:
        """End ``block`` with a branch, a return or a barrier."""
        block.end = last
        if last.guard:
            block.guard = self.slot(Register(last.guard), 1, last)
        if last.root.startswith("bar") and "warp" not in last.modifiers:
            block.barrier = self.barrier(last)

    def step(self, decoder: Decoder, item: Instruction) -> Step:
        """Return what ``item`` does. Errors: E0901, also where operands are too few or too many."""
        try:
            step = decoder(self, item)
            return self.guarded(item, step) if item.guard else step
        except (KeyError, ValueError, IndexError, StopIteration) as wrong:
            raise unknown(item, "this form of the opcode") from wrong

    def barrier(self, instruction: Instruction) -> int:
        """Return the number of a barrier of the whole CTA; no other kind is known."""
        numbers = [o.value for o in instruction.operands if isinstance(o, Immediate)]
        known = {"sync", "aligned", "cta"}.issuperset(instruction.modifiers)
        whole = len(numbers) == 1 or numbers[1:] == [self.entry.threads]
        plain = len(numbers) == len(instruction.operands) and not instruction.guard
        if not known or not whole or not plain:
            raise unknown(instruction, "a barrier of a part of the CTA")
        return numbers[0]

    def guarded(self, instruction: Instruction, step: Step) -> Step:
        """Return ``step`` for those active lanes alone whose guard holds."""
        guard, unless = self.slots[instruction.guard], instruction.unless

        def run(m: "Machine") -> None:
            outer = m.mask
            holds = ~m.full(guard) if unless else m.full(guard)
            both = holds if outer is None else holds & outer
            if both.all():
                step(m)
            elif both.any():
                m.narrow(both)
                step(m)
                m.narrow(outer)

        return run

    def slot(self, operand: Operand, bits: int, instruction: Instruction) -> int:
        """Return the slot of an operand that is read; literals get one of ``bits``."""
        match operand:
            case Immediate(value):
                key = (value % 2**bits, bits)
                if key not in self.constants:
                    self.constants[key] = self.new_slot(bits)
                return self.constants[key]
            case Symbol(name) if name in self.addresses:
                return self.slot(Immediate(self.addresses[name]), bits, instruction)
            case Register(name) | Symbol(name):
                if name in SPECIAL and name not in self.slots:
                    self.slots[name] = self.new_slot(SPECIAL[name])
                if name == "WARP_SZ":
                    return self.slot(Immediate(32), bits, instruction)
                if name in self.slots:
                    return self.slots[name]
            case _:
                pass
        raise unknown(instruction, f"an operand of this kind: {operand}")

    def reader(
        self, operand: Operand, fmt: Format, instruction: Instruction
    ) -> tuple[int, Callable[[Array], Array]]:
        """Return the slot of an operand, and how its bits are read as ``fmt``."""
        slot = self.slot(operand, fmt.bits, instruction)
        if self.widths[slot] == fmt.bits:
            return slot, fmt.decode
        if self.widths[slot] < fmt.bits or fmt.bits == 1:
            raise unknown(instruction, f"a register of {self.widths[slot]} bits as {fmt.name}")
        storage, decode = STORAGE[fmt.bits], fmt.decode
        return slot, lambda bits: decode(bits.astype(storage))

    def writer(
        self, operand: Operand, fmt: Format, instruction: Instruction
    ) -> tuple[int, Callable[[Array], Array]]:
        """Return the slot of a result, and how values of ``fmt`` become its bits.

        A wider register takes the sign of signed values, and zeros above others.
        """
        if not isinstance(operand, Register):
            raise unknown(instruction, f"a result in {operand}")
        if operand.name == "_":
            return self.new_slot(fmt.bits), fmt.encode
        slot = self.slots[operand.name]
        width = self.widths[slot]
        if width == fmt.bits:
            return slot, fmt.encode
        if width < fmt.bits:
            raise unknown(instruction, f"a register of {width} bits for {fmt.name}")
        storage, encode = STORAGE[width], fmt.encode
        if fmt.kind == "s":
            signed = np.dtype(f"i{width // 8}")
            return slot, lambda values: values.astype(signed).view(storage)
        return slot, lambda values: encode(values).astype(storage)

    def elementwise(
        self,
        instruction: Instruction,
        compute: Compute,
        result: Format,
        operands: Iterable[Format],
    ) -> Step:
        """Return a step that writes ``compute`` of its operands, lane by lane."""
        out, *sources = instruction.operands
        formats = list(operands)
        if len(formats) != len(sources):
            raise unknown(instruction, f"this opcode with {len(sources)} operands")
        d, encode = self.writer(out, result, instruction)
        reads = [self.reader(o, f, instruction) for o, f in zip(sources, formats, strict=True)]
        return _step(d, encode, cast(Callable[..., Array], compute), reads)


def _step(
    d: int,
    encode: Callable[[Array], Array],
    compute: Callable[..., Array],
    reads: list[tuple[int, Callable[[Array], Array]]],
) -> Step:
    """Return the step for one, two, three or more operands: a loop costs as much as the work."""
    if len(reads) == 1:
        ((a, read_a),) = reads

        def one(m: "Machine") -> None:
            m.put(d, encode(compute(read_a(m.slots[a]))))

        return one
    if len(reads) == 2:
        (a, read_a), (b, read_b) = reads

        def two(m: "Machine") -> None:
            m.put(d, encode(compute(read_a(m.slots[a]), read_b(m.slots[b]))))

        return two

    def many(m: "Machine") -> None:
        m.put(d, encode(compute(*[read(m.slots[slot]) for slot, read in reads])))

    return many


def literal(operand: Operand, instruction: Instruction) -> int:
    """Return the number that stands in the text. Errors: E0901 for anything else."""
    if not isinstance(operand, Immediate):
        raise unknown(instruction, f"{operand} in place of a number")
    return operand.value


def label_of(instruction: Instruction) -> str:
    """Return the label that a branch names."""
    (target,) = instruction.operands
    if not isinstance(target, Symbol):
        raise unknown(instruction, "a branch to a computed place")
    return target.name


def parts(operand: Operand) -> tuple[Operand, ...]:
    """Return the operands in ``{a, b}``, or the one that stands alone."""
    return operand.parts if isinstance(operand, Vector) else (operand,)

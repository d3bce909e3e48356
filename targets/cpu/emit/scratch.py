"""Where each buffer of a kernel lies: arguments, arena scratch, scratch of one thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.expr import Expr, ceildiv
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import buffer_of
from tapeout.targets.host.text import c_factor, c_type

ALIGN = 64
"""Bytes of a cache line: no two threads write to the same one."""


@dataclass(frozen=True)
class Scratch:
    """Memory that a kernel needs beside its arguments.

    ``shared`` follow the arguments in the buffer list; so do ``per_thread``, whose sizes are
    symbolic, one copy per thread. ``fixed_bytes`` come from each thread's own scratch.
    """

    shared: tuple[Expr, ...]
    per_thread: tuple[Expr, ...]
    fixed_bytes: int


class Places:
    """The C pointer of every buffer of a program."""

    def __init__(self, program: ops.ProgramOp) -> None:
        """Give every buffer its name and place."""
        self.arguments: list[SSAValue] = list(program.body.block.args)
        self.inputs = len(self.arguments) - program.outputs.data
        self.pointers = dict(zip(self.arguments, program.names.data, strict=True))
        self.shared: list[SSAValue] = []
        self.per_thread: list[SSAValue] = []
        self.fixed: dict[SSAValue, int] = {}
        self.fixed_bytes = 0
        for op in program.walk():
            if isinstance(op, ops.AllocOp):
                self._place(op.buffer)

    def _place(self, buffer: SSAValue) -> None:
        self.pointers[buffer] = f"tmp{len(self.pointers) - len(self.arguments)}"
        spec = buffer_of(buffer)
        size = spec.bytes.constant
        if spec.space == "shared":
            self.shared.append(buffer)
        elif size is None:
            self.per_thread.append(buffer)
        else:
            self.fixed[buffer] = self.fixed_bytes
            self.fixed_bytes += -(-size // ALIGN) * ALIGN

    def scratch(self) -> Scratch:
        """What the kernel asks of its caller."""
        return Scratch(
            tuple(buffer_of(v).bytes for v in self.shared),
            tuple(map(_aligned_bytes, self.per_thread)),
            self.fixed_bytes,
        )

    def declarations(self, used: Set[SSAValue], names: Mapping[str, str]) -> Iterator[str]:
        """C that fetches the pointers of ``used``; ``names`` are those of dimensions."""
        listed = [*self.arguments, *self.shared, *self.per_thread]
        for position, value in enumerate(listed):
            if value in used:
                const = "const " if position < self.inputs else ""
                source = f"b[{position}]"
                if value in self.per_thread:
                    size = c_factor(_aligned_bytes(value), names)
                    source = f"(void *)((char *)b[{position}] + thread * {size} /* bytes */)"
                yield f"{const}{self._declared(value)} = {source};"
        for value, offset in self.fixed.items():
            if value in used:
                source = f"(void *)((char *)rt_scratch(s, thread) + {offset} /* bytes */)"
                yield f"{self._declared(value)} = {source};"

    def _declared(self, value: SSAValue) -> str:
        return f"{c_type(buffer_of(value).dtype)} *restrict {self.pointers[value]}"


def _aligned_bytes(value: SSAValue) -> Expr:
    return ceildiv(buffer_of(value).bytes, ALIGN) * ALIGN

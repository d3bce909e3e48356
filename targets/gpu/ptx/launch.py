"""The way in: PTX text, decoded once, and launched on numpy arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx import (
    ops_async,
    ops_atomic,
    ops_bits,
    ops_convert,
    ops_float,
    ops_integer,
    ops_matrix,
    ops_memory,
    ops_select,
    ops_warp,
)
from tapeout.targets.gpu.ptx.formats import FORMATS, STORAGE
from tapeout.targets.gpu.ptx.machine import Machine
from tapeout.targets.gpu.ptx.memory import GlobalMemory
from tapeout.targets.gpu.ptx.parse import parse
from tapeout.targets.gpu.ptx.program import Decoder, Program
from tapeout.targets.gpu.ptx.races import GlobalRaces
from tapeout.targets.gpu.ptx.regions import place
from tapeout.targets.gpu.ptx.schedule import Schedule
from tapeout.targets.gpu.ptx.shared import SharedMemory

Array = npt.NDArray[Any]
Number = int | float | np.integer[Any] | np.floating[Any]
Argument = Array | Number

DECODERS: dict[str, Decoder] = {
    opcode: decoder
    for ops in (
        ops_async,
        ops_atomic,
        ops_bits,
        ops_convert,
        ops_float,
        ops_integer,
        ops_matrix,
        ops_memory,
        ops_select,
        ops_warp,
    )
    for opcode, decoder in ops.DECODERS.items()
}

BATCH_LANES = 8192
"""So many lanes run in step: beyond it arrays leave the cache, below it numpy's own time shows."""


class Launch:
    """A kernel that can be launched: ``name`` picks one where the PTX holds several.

    Errors: E0901 for PTX that the interpreter does not know.
    """

    def __init__(self, ptx: str, name: str = "") -> None:
        module = parse(ptx)
        found = [e for e in module.entries if not name or e.name == name]
        if len(found) != 1:
            names = [e.name for e in module.entries]
            raise CompileError("E0901", f"the PTX has not one kernel '{name}'", [("has", names)])
        self.entry = found[0]
        self.program = Program(module, self.entry, DECODERS)

    def run(
        self,
        grid: Sequence[int],
        arguments: Sequence[Argument],
        *,
        warps: int,
        shared: int,
        races: bool = True,
    ) -> None:
        """Run every CTA of ``grid``; arrays are written in place.

        ``arguments`` are those of the kernel: contiguous arrays for pointers, numbers for the
        rest; scratch pointers that are left out at the end are null. ``shared`` is the bytes of
        dynamic shared memory; ``races=False`` leaves the race check out.

        Errors: E0902 to E0907 (see ``faults.py``).
        """
        nx, ny, nz = (*grid, 1, 1)[:3]
        ctas, threads = nx * ny * nz, 32 * warps
        if self.entry.threads not in (0, threads):
            raise misfit(f"the kernel has {self.entry.threads} threads, not {threads}")
        arrays, scalars = self.bind(arguments)
        regions, addresses = place(arrays)
        uniform = {
            slot: np.array([address], np.uint64)
            for slot, address in zip(self.pointers(arrays), addresses, strict=True)
        }
        uniform.update(scalars)
        checked = GlobalRaces(self.program.smallest["global"], ctas, (nx, ny, nz))
        memory = GlobalMemory(regions, checked if races and ctas > 1 else None)
        nbytes = max(shared, self.program.static_shared)
        per_batch = max(1, min(ctas, BATCH_LANES // threads))
        with np.errstate(all="ignore"):
            for first in range(0, ctas, per_batch):
                batch = min(per_batch, ctas - first)
                own = SharedMemory(batch, nbytes, self.program.smallest["shared"], races)
                machine = Machine(
                    self.program, (nx, ny, nz), first, batch, threads, memory, own, uniform
                )
                Schedule(machine).run()

    def bind(
        self, arguments: Sequence[Argument]
    ) -> tuple[list[tuple[str, Array]], dict[int, Array]]:
        """Return arrays with their names, and the slots of numbers. Errors: E0907."""
        parameters = self.entry.parameters
        missing = len(parameters) - len(arguments)
        if not 0 <= missing <= 2:
            raise misfit(f"the kernel takes {len(parameters)} arguments, not {len(arguments)}")
        arrays, scalars = list[tuple[str, Array]](), dict[int, Array]()
        for n, ((name, kind), value) in enumerate(
            zip(parameters, [*arguments, *[0] * missing], strict=True)
        ):
            if isinstance(value, np.ndarray):
                if kind not in ("u64", "b64") or not value.flags.c_contiguous:
                    raise misfit(f"argument {n} must be a contiguous array for {kind}")
                arrays.append((f"argument {n}", value))
                continue
            scalars[self.program.parameters[name]] = scalar(kind, value, n)
        arrays += [(n, np.frombuffer(d, np.uint8)) for n, d in self.program.constant_data]
        return arrays, scalars

    def pointers(self, arrays: list[tuple[str, Array]]) -> list[int]:
        """Return the slots that take the arrays' addresses."""
        slots = [self.program.parameters[name] for name, _ in self.entry.parameters]
        return [
            slots[int(name.split()[1])]
            if name.startswith("argument ")
            else self.program.slots[name]
            for name, _ in arrays
        ]


def scalar(kind: str, value: Number, n: int) -> Array:
    """Return the bits of a number as a parameter of type ``kind``. Errors: E0907."""
    fmt = FORMATS[kind]
    if fmt.kind == "f":
        width = np.float32 if fmt.bits == 32 else np.float64
        return np.array([value], width).view(STORAGE[fmt.bits])
    if isinstance(value, float | np.floating):
        raise misfit(f"argument {n} is {value}, and {kind} holds no float")
    return np.array([int(value) % 2**fmt.bits], STORAGE[fmt.bits])


def misfit(what: str) -> CompileError:
    """Return the error of arguments that do not fit."""
    return CompileError("E0907", what, fix="launch the kernel as its metadata says")

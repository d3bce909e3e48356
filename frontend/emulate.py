"""``run --emulate``: a program for GPUs on the CPU, by the launcher and the code that ship."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from tapeout.ir.errors import CompileError
from tapeout.runtime.archive import Archive
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program, load
from tapeout.targets.gpu.emulate.driver import Emulator
from tapeout.targets.gpu.emulate.functions import Code, read_code
from tapeout.targets.gpu.target import FUNCTIONS, PTX


def code_of(path: str | os.PathLike[str]) -> Code:
    """The code that an artifact keeps for emulation; E0101 for a program that is for no GPU."""
    archive = Archive(path)
    try:
        if archive.manifest.target != "gpu":
            raise CompileError(
                "E0101",
                "only programs for GPUs are emulated",
                [("where", "--emulate"), ("target", archive.manifest.target)],
                "leave --emulate out",
            )
        text = archive.read_verified(FUNCTIONS)
        return read_code(text, lambda name: archive.read_verified(f"{PTX}/{name}.ptx"))
    finally:
        archive.close()


@contextmanager
def emulated(
    path: str | os.PathLike[str], emulator: Emulator | None = None, threads: int | None = None
) -> Generator[Program]:
    """A program on an emulated GPU. Errors: E0901 to E0908 for what a run does wrong there."""
    device = emulator or Emulator(code_of(path))
    try:
        with load(path, threads=threads, driver=device.table) as program:
            yield program
    except RunError:
        if device.fault is not None:
            raise device.fault from None
        raise

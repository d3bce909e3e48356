"""C sources to a shared object with the system's compiler, files in parallel."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tapeout.ir.errors import CompileError
from tapeout.targets.host import objects

FLAGS = (
    *("-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-w"),
    # Results must not depend on what a compiler chooses to fuse; fused steps are written out.
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
LIBRARIES = ("-lm", "-lpthread")


class Built(Protocol):
    """What C is built for: a device, or the machine around one."""

    @property
    def label(self) -> str:
        """Its name as ``--target`` takes it."""
        ...

    @property
    def compiler(self) -> str:
        """The C compiler that its table names."""
        ...

    @property
    def flags(self) -> tuple[str, ...]:
        """What the compiler is told beside :data:`FLAGS`."""
        ...

    @property
    def libraries(self) -> tuple[str, ...]:
        """What is linked beside :data:`LIBRARIES`."""
        ...


def compiler(device: Built) -> str:
    """The C compiler for a device: ``TAPEOUT_CC``, or the one its TOML names. E0601 without."""
    name = os.environ.get("TAPEOUT_CC") or device.compiler
    if shutil.which(name) is None:
        raise CompileError(
            "E0601",
            "there is no C compiler for this device",
            [("device", device.label), ("looked for", name)],
            f"install {name}, or set TAPEOUT_CC to the compiler to use",
        )
    return name


def build(everything: Mapping[str, bytes], device: Built, extra: Sequence[str] = ()) -> bytes:
    """Compile and link; returns the shared object. E0602 with the compiler's words on failure."""
    cc = compiler(device)
    with tempfile.TemporaryDirectory(prefix="tapeout-") as folder:
        for name, data in everything.items():
            Path(folder, name).write_bytes(data)
        units = sorted(n for n in everything if n.endswith(".c"))
        flags = [*FLAGS, *device.flags, *extra]

        def compile_one(name: str) -> str:
            target = name.removesuffix(".c") + ".o"
            key = objects.digest(name, everything, [cc, *flags])
            if not objects.find(key, Path(folder, target)):
                _run([cc, *flags, "-c", name, "-o", target], folder)
                objects.keep(key, Path(folder, target))
            return target

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            made = list(pool.map(compile_one, units))
        objects.trim()
        libraries = (*LIBRARIES, *device.libraries)
        _run([cc, *flags, "-shared", *made, "-o", "model.so", *libraries, "-s"], folder)
        return Path(folder, "model.so").read_bytes()


def _run(command: Sequence[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            "E0602",
            "the C compiler failed on generated code",
            [("command", " ".join(command)), ("says", done.stderr[:2000])],
            "this is a fault of tapeout: report it with the model; "
            "compile with --format dir to keep the sources",
        )

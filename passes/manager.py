"""Passes and how they run: in order, checked, timed, and with a reproducer when one fails.

A pass is a frozen dataclass whose fields are its options. It changes a module in place and
leaves it valid; what it saves stands in its docstring.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.arg_spec import ArgSpecConvertible

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.text import module_text, write_module

Verify = Literal["each", "end", "never"]


@dataclass(frozen=True)
class Pass(ArgSpecConvertible):
    """One change to a module; subclasses are frozen dataclasses with a ``name``."""

    @abstractmethod
    def apply(self, module: Module) -> None:
        """Change ``module`` in place."""


@dataclass(frozen=True)
class PassRecord:
    """What one pass took and left: wall seconds, and the operators in the module after it."""

    name: str
    seconds: float
    operators: int


@dataclass(eq=False)
class PassFailed(AssertionError):
    """A fault inside a pass: names the pass, those before it and the reproducer file."""

    failed: Pass
    before: Sequence[Pass]
    reason: Exception
    reproducer: Path | None

    def __str__(self) -> str:
        """One line: the pass, those before it, the reason, and the reproducer if there is one."""
        ran = ", ".join(map(str, self.before)) or "none"
        where = f"; the first line of {self.reproducer} reproduces it" if self.reproducer else ""
        return f"pass {self.failed} failed (passes before it: {ran}): {self.reason}{where}"


def run(
    module: Module,
    passes: Sequence[Pass],
    *,
    verify: Verify = "end",
    print_after: str | None = None,
    stop_after: str | None = None,
    dump: Path | None = None,
    reproducers: Path | None = None,
) -> list[PassRecord]:
    """Run ``passes`` in order on ``module``, in place; one record for each that ran.

    ``verify``: after ``each`` pass, at the ``end``, or ``never``. ``print_after`` and
    ``stop_after`` take a pass's name (``print_after="all"`` prints after each). ``dump`` is a
    folder for ``NN-name.mlir`` files, ``reproducers`` one for the file that a failure leaves.
    Raises PassFailed for a fault of ours; a CompileError passes through.
    """
    start = replace(module, ir=module.ir.clone()) if reproducers else None
    records: list[PassRecord] = []
    for index, each in enumerate(passes):
        last = index == len(passes) - 1 or each.name == stop_after
        try:
            records.append(_timed(each, module))
            if verify == "each" or (verify == "end" and last):
                module.ir.verify()
        except CompileError:
            raise
        except Exception as reason:
            kept = _reproducer(start, passes[: index + 1], reproducers)
            raise PassFailed(each, passes[:index], reason, kept) from reason
        if dump is not None:
            write_module(module, dump / f"{index:02}-{each.name}.mlir", weights=False)
        if print_after in (each.name, "all"):
            print(f"// after {each}\n{module_text(module)}")
        if last:
            break
    return records


def _timed(each: Pass, module: Module) -> PassRecord:
    begin = time.perf_counter()
    each.apply(module)
    return PassRecord(each.name, time.perf_counter() - begin, operators(module.ir))


def operators(ir: ModuleOp) -> int:
    """The operators of a module, the module itself left out."""
    return sum(1 for _ in ir.walk()) - 1


def _reproducer(start: Module | None, passes: Sequence[Pass], folder: Path | None) -> Path | None:
    if start is None or folder is None:
        return None
    path = folder / f"{passes[-1].name}-failed.mlir"
    pipeline = ",".join(map(str, passes))
    write_module(start, path, head=f"// tapeout opt {path.name} -p '{pipeline}'\n")
    return path

"""Compile a random graph for a device, run it, and compare with the evaluator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from random_graphs.draw import Array, Case
from tapeout.frontend import driver
from tapeout.ir.evaluator import evaluate
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.types import specs
from tapeout.runtime import artifact
from tapeout.runtime.program import load
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.device import Device


@dataclass(frozen=True)
class Mismatch(Exception):
    """A compiled graph that differs from the evaluator; ``what`` says where and by how much."""

    seed: int
    device: str
    what: str

    def __str__(self) -> str:
        """One line with the seed."""
        return f"seed {self.seed} on {self.device}: {self.what}"


def check(case: Case, device: str, folder: Path) -> None:
    """Raise :class:`Mismatch` when the device computes another result."""
    wanted = [evaluate(case.module, inputs) for inputs in case.inputs]
    path = folder / f"{case.seed}-{device}.tapeout"
    build(case, driver.targeted(f"cpu:{device}"), path)
    program = load(path, threads=2)
    for inputs, want in zip(case.inputs, wanted, strict=True):
        have = program.run(inputs)
        for name in want:
            what = difference(want[name], have[name], tolerance(case))
            if what:
                raise Mismatch(case.seed, device, f"{name} of {list(want)}: {what}")
    del program
    path.unlink()


def build(case: Case, devices: list[Device], path: Path) -> None:
    """Write the artifact of a graph; the case keeps its module as it is."""
    module = replace(case.module, ir=case.module.ir.clone())
    driver.lower(module)
    built = cpu.compile_module(module, devices)
    artifact.write(path, built.manifest, built.files, "file")


def tolerance(case: Case) -> float:
    """Relative to the largest magnitude of an output: by the narrowest float that occurs."""
    narrow = any(
        t.dtype.is_float and t.dtype.bits < 32
        for op in case.module.ir.walk()
        if not isinstance(op, WeightOp)
        for t in specs(op.results)
    )
    return 3e-2 if narrow else 2e-4


def difference(want: Array, have: Array, share: float) -> str:
    """What differs, or nothing."""
    if want.shape != have.shape or want.dtype != have.dtype:
        return f"{have.dtype}{list(have.shape)} for {want.dtype}{list(want.shape)}"
    if not want.size:
        return ""
    if want.dtype.kind in "iub":
        count = int(np.sum(want != have))
        return f"{count} of {want.size} differ, first {_first(want, have)}" if count else ""
    a, b = want.astype(np.float64), have.astype(np.float64)
    odd = ~np.isfinite(a)
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return "infinities or NaNs differ"
    top = max(float(np.abs(a[~odd]).max(initial=0.0)), 1e-3)
    kept = np.where(np.isfinite(b), b, np.inf)
    worst = float(np.where(odd, 0.0, np.abs(np.where(odd, 0.0, a) - kept)).max())
    return f"off by {worst:.2e} of {top:.2e}" if worst > share * top else ""


def _first(want: Array, have: Array) -> str:
    at: Any = tuple(np.argwhere(want != have)[0])
    return f"{have[at]} for {want[at]} at {list(map(int, at))}"

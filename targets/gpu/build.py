"""Triton's source to code objects, ahead of time: without a device, a driver, or torch."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.emit.kernel import PRELUDE, KernelText, Part

RETRIES = ((8, 3), (16, 3), (16, 1))
"""Warps and stages that are tried in turn for what spills.

By more warps a thread holds less of a tile, by fewer stages less of the next one.
"""

POINTER_ALIGN = 16
"""Bytes on which every buffer that is given to a kernel begins."""


@dataclass(frozen=True)
class Job:
    """One function to compile: for an architecture such as 80, by so many warps."""

    part: str
    signature: Mapping[str, str]
    arch: int
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class Object:
    """A compiled function: its code, what launching it takes, and what a thread of it holds.

    ``shared``: bytes of shared memory of a program; ``registers`` and ``spilled`` bytes: of a
    thread. ``cuda``: the version of the driver's interface that loads the code, 12000 for 12.
    """

    job: Job
    name: str
    code: bytes
    ptx: str
    shared: int
    registers: int
    spilled: int
    cuda: int


def source_of(kernels: Sequence[KernelText]) -> str:
    """The one file that holds all functions of a program."""
    return "\n\n".join([PRELUDE.rstrip(), *(p.source for k in kernels for p in k.parts)])


def jobs_of(kernels: Sequence[KernelText], archs: Sequence[int]) -> list[Job]:
    """What there is to compile."""
    parts: list[Part] = [p for k in kernels for p in k.parts]
    return [Job(p.name, p.signature, arch) for p in parts for arch in archs]


def require_triton() -> None:
    """E0601 without Triton."""
    if importlib.util.find_spec("triton") is None:
        raise CompileError(
            "E0601",
            "there is no Triton to compile kernels for GPUs",
            fix="pip install 'tapeout[gpu]'",
        )


def build(source: str, jobs: Sequence[Job], workers: int | None = None) -> list[Object]:
    """Compile every job, in parallel; E0602 with Triton's words for one that fails.

    The same source and jobs give the same bytes. E0601 without Triton.
    """
    require_triton()
    workers = min(workers or os.cpu_count() or 1, max(1, len(jobs)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.py"
        file.write_text(source)
        # Triton keeps what it has compiled in a folder that it would share with everybody.
        setting = (str(file), str(Path(folder) / "cache"))
        with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, setting) as pool:
            return list(pool.map(_compile, jobs))


def build_best(source: str, jobs: Sequence[Job], workers: int | None = None) -> list[Object]:
    """:func:`build`, and what spills by :data:`RETRIES` too; of each what spills the least."""
    made = build(source, jobs, workers)
    for warps, stages in RETRIES:
        spilled = [i for i, each in enumerate(made) if each.spilled]
        if not spilled:
            break
        again = build(
            source, [replace(jobs[i], warps=warps, stages=stages) for i in spilled], workers
        )
        for i, other in zip(spilled, again, strict=True):
            made[i] = min(made[i], other, key=lambda each: each.spilled)
    return made


_kernels: ModuleType | None = None


def _prepare(file: str, cache: str) -> None:
    """Make a worker ready: settings, then the file's functions."""
    os.environ["TRITON_CACHE_DIR"] = cache
    os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
    global _kernels
    found = importlib.util.spec_from_file_location("tapeout_kernels", file)
    assert found is not None, "a path is enough to load a file"
    assert found.loader is not None, "a Python file has a loader"
    _kernels = importlib.util.module_from_spec(found)
    sys.modules[found.name] = _kernels
    found.loader.exec_module(_kernels)


def _compile(job: Job) -> Object:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    function = getattr(_kernels, job.part)
    pointers = [i for i, kind in enumerate(job.signature.values()) if kind.startswith("*")]
    attrs = {(i,): [["tt.divisibility", POINTER_ALIGN]] for i in pointers}
    options = {"num_warps": job.warps, "num_stages": job.stages, "enable_fp_fusion": False}
    try:
        made: Any = triton.compile(
            ASTSource(function, dict(job.signature), {}, attrs),
            target=GPUTarget("cuda", job.arch, 32),
            options=options,
        )
    except Exception as error:
        raise CompileError(
            "E0602",
            "Triton failed on generated code",
            [("kernel", job.part), ("for", f"sm_{job.arch}"), ("why", _last_words(error))],
            "report this, with the model",
        ) from None
    its = made.metadata
    # What the launcher knows nothing of.
    assert its.num_warps == job.warps, f"{job.part} wants {its.num_warps} warps"
    assert its.num_ctas == 1, f"{job.part} wants a cluster"
    assert not its.global_scratch_size, f"{job.part} wants scratch"
    assert not its.launch_cooperative_grid, f"{job.part} wants all its programs at once"
    assert not its.launch_pdl, f"{job.part} wants to overlap"
    code, ptx = made.asm["cubin"], made.asm["ptx"]
    registers, spilled = _resources(code)
    # A driver takes code of every minor version of its major one (CUDA Compatibility, chapter 2).
    cuda = int(get_ptxas(job.arch).version.partition(".")[0]) * 1000
    return Object(job, its.name, code, ptx, its.shared, registers, spilled, cuda)


def _resources(code: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of it that lie in memory, as NVIDIA's own tool says."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(number) for key, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def _last_words(error: BaseException) -> str:
    """The innermost message: errors in source are wrapped once for every function they are in."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return " | ".join(lines[-3:])[:500] or type(error).__name__

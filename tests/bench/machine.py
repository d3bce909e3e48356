"""The machine: its CPUs, its name, and its measured ceilings."""

import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ceilings:
    """What ``ceilings.c`` measured with a number of threads, all of them together."""

    threads: int
    fma_gflops: float
    read_gb_s: float
    dot_gops: float | None
    """Products and sums of bytes, 1e9 a second; None without instructions for them."""
    dot_with: str | None


def cores() -> list[int]:
    """Return one CPU of every physical core that this process may use, last ones first.

    Interrupts and other people's processes tend to sit on the first.
    """
    allowed = os.sched_getaffinity(0)
    firsts: dict[str, int] = {}
    for cpu in sorted(allowed):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        key = siblings.read_text().strip() if siblings.exists() else str(cpu)
        firsts.setdefault(key, cpu)
    return sorted(firsts.values(), reverse=True)


def cpu_model() -> str:
    """Return what the kernel calls this CPU, with its family and model numbers."""
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name", platform.machine())
    numbers = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{name} ({numbers}, {len(cores())} cores)"


def busy_share(seconds: float = 0.5) -> float:
    """Return the share of all CPU time that others use while this process sleeps."""
    idle_before, all_before = _cpu_ticks()
    time.sleep(seconds)
    idle, total = _cpu_ticks()
    return 1 - (idle - idle_before) / max(total - all_before, 1)


def _cpu_ticks() -> tuple[int, int]:
    """Return the ticks that all CPUs have been idle, and all their ticks, since the start."""
    first_line = Path("/proc/stat").read_text().split("\n", 1)[0]
    ticks = [int(tick) for tick in first_line.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def measure_ceilings(threads: tuple[int, ...]) -> dict[int, Ceilings]:
    """Build and run ``ceilings.c`` on the cores that the engines get, for each thread count."""
    with tempfile.TemporaryDirectory() as folder:
        program = build_ceilings(Path(folder))
        return {n: Ceilings(n, **_ask(program, n)) for n in threads}


def build_ceilings(folder: Path) -> Path:
    """Compile ``ceilings.c`` into a folder."""
    program = folder / "ceilings"
    source = Path(__file__).with_name("ceilings.c")
    flags = ["-O3", "-march=native", "-pthread", "-o", str(program)]
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(source)], check=True)
    return program


def file_gb_s(ceilings: Path, threads: int, file: Path) -> float:
    """Return how fast the built ``ceilings`` read a mapped file on the engines' cores."""
    return _ask(ceilings, threads, str(file))["read_gb_s"]


def _ask(ceilings: Path, threads: int, *file: str) -> dict[str, Any]:
    cpus = cores()[:threads]
    answer = subprocess.run(
        [str(ceilings), str(threads), *file],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    return json.loads(answer.stdout)


def best_of(first: Ceilings, second: Ceilings) -> Ceilings:
    """Return the higher of two measurements: a ceiling is what was reached at least once."""
    return Ceilings(
        first.threads,
        max(first.fma_gflops, second.fma_gflops),
        max(first.read_gb_s, second.read_gb_s),
        None if first.dot_gops is None else max(first.dot_gops, second.dot_gops or 0),
        first.dot_with,
    )

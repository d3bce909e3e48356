"""``bench``: seconds per call of a program, its kernels, and other engines in turns with it.

Engines share one process here, so their resting threads can disturb each other a little; each
turn starts after a rest and one call that is not timed. ``tests/bench`` keeps them apart.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tapeout.frontend.arrays import made_up, sizes
from tapeout.frontend.peers import Arrays, Engine, load_peer
from tapeout.frontend.terminal import scaled, seconds_text
from tapeout.runtime.profile import KernelTime
from tapeout.runtime.program import Program, load

OURS = "tapeout"
TURN_SECONDS = 0.15
REST_SECONDS = 0.05
SHORTEST_SAMPLE_SECONDS = 1e-3
"""Shorter calls are timed several at a time, so that reading the clock does not count."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, least and greatest over turns, of each turn's median."""

    median: float
    least: float
    greatest: float
    turns: int


@dataclass(frozen=True)
class Result:
    """What :func:`bench` measured, on ``device``, with inputs of the sizes ``at``."""

    device: str
    threads: int
    at: Mapping[str, int]
    artifact_bytes: int
    memory_bytes: int
    load_seconds: float
    compile_seconds: float | None
    timings: Mapping[str, Timing]
    errors: Mapping[str, float]
    """Greatest difference of our outputs from a peer's, relative to its greatest magnitude."""
    kernels: Sequence[KernelTime]

    def tree(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        return {**asdict(self), "kernels": [kernel._asdict() for kernel in self.kernels]}


@dataclass(frozen=True)
class Wish:
    """What to measure: ``inputs`` replace those made up, ``rounds`` bound the turns."""

    threads: int | None = None
    against: Sequence[str] = ()
    inputs: Mapping[str, NDArray[Any]] | None = None
    at: Mapping[str, int] | None = None
    rounds: int = 15
    profile: bool = False


def bench_model(
    model: Path, compile: Callable[[Path], Path], wish: Wish, note: Callable[[str], None]
) -> Result:
    """Compile a model into a folder that goes away, and measure it, also against peers."""
    with tempfile.TemporaryDirectory(prefix="tapeout-") as folder:
        begin = time.perf_counter()
        artifact = compile(Path(folder, "model.tapeout"))
        seconds = time.perf_counter() - begin
        return bench_artifact(artifact, wish, note, model, seconds)


def bench_artifact(
    artifact: Path,
    wish: Wish,
    note: Callable[[str], None],
    model: Path | None = None,
    compile_seconds: float | None = None,
) -> Result:
    """Measure an artifact; peers take ``model``, which must be given when there are any."""
    threads = wish.threads or len(os.sched_getaffinity(0))
    begin = time.perf_counter()
    with load(artifact, threads=threads) as program:
        load_seconds = time.perf_counter() - begin
        at = sizes(program.manifest, wish.at or {})
        inputs = wish.inputs or made_up(program.manifest, at)
        engines: dict[str, Engine] = {OURS: program.run}
        for name in wish.against:
            assert model is not None, "peers cannot read artifacts"
            note(f"loading the model into {name}")
            engines[name] = load_peer(name, model, threads)
        errors = disagreement(engines, inputs)
        note("measuring")
        timings = take_turns(engines, inputs, wish.rounds)
        kernels = _profile(program, inputs, timings[OURS]) if wish.profile else ()
        size, memory = _bytes(artifact), program.memory_bytes
        return Result(
            *(program.device, threads, {} if wish.inputs else at, size, memory),
            *(load_seconds, compile_seconds, timings, errors, kernels),
        )


def disagreement(engines: Mapping[str, Engine], inputs: Arrays) -> dict[str, float]:
    """Run every engine once; how far our outputs are from each peer's."""
    outputs = {name: run(inputs) for name, run in engines.items()}
    ours = outputs.pop(OURS)
    return {
        name: max(_error(ours[key], right) for key, right in theirs.items())
        for name, theirs in outputs.items()
    }


def _error(ours: NDArray[Any], right: NDArray[Any]) -> float:
    if ours.shape != right.shape:
        return float("inf")
    a, b = np.asarray(ours, np.float64), np.asarray(right, np.float64)
    largest = float(np.abs(b).max(initial=0.0)) or 1.0
    return float(np.abs(a - b).max(initial=0.0)) / largest


def take_turns(engines: Mapping[str, Engine], inputs: Arrays, rounds: int) -> dict[str, Timing]:
    """Let the engines measure A B C A B C ...; a turn is about 0.15 s, after a rest."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, run in engines.items():
            time.sleep(REST_SECONDS)
            taken[name].append(_turn(lambda run=run: run(inputs)))
    return {
        name: Timing(statistics.median(turns), min(turns), max(turns), len(turns))
        for name, turns in taken.items()
    }


def _turn(call: Callable[[], object]) -> float:
    call()  # the caches belong to the engine before
    repeats = max(1, round(SHORTEST_SAMPLE_SECONDS / max(_timed(call, 1), 1e-9)))
    samples: list[float] = []
    end = time.perf_counter() + TURN_SECONDS
    while not samples or time.perf_counter() < end:
        samples.append(_timed(call, repeats))
    return statistics.median(samples)


def _timed(call: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def _profile(program: Program, inputs: Arrays, timing: Timing) -> Sequence[KernelTime]:
    runs = max(1, min(1000, round(TURN_SECONDS / timing.median)))
    times = program.profile(inputs, runs)
    per_run = (
        k._replace(calls=round(k.calls / runs), nanoseconds=round(k.nanoseconds / runs))
        for k in times
    )
    return tuple(sorted(per_run, key=lambda k: -k.nanoseconds))


def _bytes(artifact: Path) -> int:
    files = artifact.rglob("*") if artifact.is_dir() else [artifact]
    return sum(file.stat().st_size for file in files if file.is_file())


def show(result: Result, out: Console) -> None:
    """Print a result."""
    at = " ".join(f"{name}={size}" for name, size in result.at.items())
    out.print(f"device   cpu:{result.device}, {result.threads} threads{f', {at}' if at else ''}")
    if result.compile_seconds is not None:
        out.print(f"compile  {result.compile_seconds:.1f} s")
    size, load_time = scaled(result.artifact_bytes, "B"), seconds_text(result.load_seconds)
    out.print(f"artifact {size}, loads in {load_time}")
    out.print(f"memory   {scaled(result.memory_bytes, 'B')} beside the weights")
    out.print(_timings(result))
    if result.kernels:
        out.print(_kernels(result.kernels))


def _timings(result: Result) -> Table:
    table = Table("engine", title="time per call (measured)", title_justify="left")
    for head in ("median", "least", "greatest", "ours/theirs", "difference"):
        table.add_column(head, justify="right")
    ours = result.timings[OURS].median
    for name, timing in result.timings.items():
        cells = [
            seconds_text(timing.median),
            seconds_text(timing.least),
            seconds_text(timing.greatest),
        ]
        if name != OURS:
            cells += [f"{ours / timing.median:.2f}", f"{result.errors[name]:.1e}"]
        table.add_row(name, *cells)
    return table


def _kernels(kernels: Sequence[KernelTime]) -> Table:
    total = sum(k.nanoseconds for k in kernels) or 1
    title = "kernels per run (time measured; work counted)"
    table = Table("kernel", title=title, title_justify="left")
    for head in ("calls", "µs", "share", "GFLOP/s", "GB/s"):
        table.add_column(head, justify="right")
    for k in kernels:
        ns = k.nanoseconds or 1
        rates = (f"{k.flops * k.calls / ns:.1f}", f"{k.bytes * k.calls / ns:.1f}")
        table.add_row(k.name, str(k.calls), f"{ns / 1e3:.1f}", f"{ns / total:.0%}", *rates)
    return table

"""The long-lived process of one engine: obeys lines of JSON on stdin, answers lines on stdout.

    {"do": "prepare", "model", "dims", "output", "calibration"}  ->  {"path", "seconds"}
    {"do": "load", "path", "inputs", "threads", "bound"}  ->  {"version", "seconds"}
    {"do": "outputs", "file"}    ->  {}           writes every output to an npz file
    {"do": "measure", "seconds"} ->  {"samples", "cpu_samples"}  seconds per call, after one call
                                    to warm up: of the clock, and of all CPUs
    {"do": "memory"}             ->  {"baseline_bytes", "peak_bytes", "io_bytes", "working_bytes"}

A failure is answered with {"error": text, "refusal": text or null}; it is a refusal when the engine
says that it does not compile this.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SHORTEST_SAMPLE_SECONDS = 1e-3
"""Shorter calls are timed several at a time, so that reading the clock does not count."""


class Worker:
    """One engine, at most one loaded model."""

    def __init__(self, name: str) -> None:
        from engines import engine

        self.baseline_bytes = _peak_bytes()
        self.engine = engine(name)
        self.call: Callable[[], object] | None = None

    def prepare(
        self, model: str, dims: dict[str, tuple[int, int]], output: str, calibration: str | None
    ) -> dict[str, Any]:
        samples = Path(calibration) if calibration else None
        start = time.perf_counter()
        path = self.engine.prepare(Path(model), dims, Path(output), samples)
        return {"path": str(path), "seconds": time.perf_counter() - start}

    def load(self, path: str, inputs: str, threads: int, bound: bool) -> dict[str, Any]:
        with np.load(inputs) as arrays:
            self.inputs = {name: arrays[name] for name in arrays.files}
        start = time.perf_counter()
        self.session = self.engine.load(Path(path), threads)
        seconds = time.perf_counter() - start
        run, held = self.session.run, self.inputs
        self.call = self.session.bind(held) if bound else lambda: run(held)
        return {"version": self.engine.version(), "seconds": seconds}

    def outputs(self, file: str) -> dict[str, Any]:
        np.savez(file, allow_pickle=False, **self.session.run(self.inputs))
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        assert self.call is not None, "load comes before measure"
        taken = samples(self.call, seconds)
        return {"samples": [t.clock for t in taken], "cpu_samples": [t.cpu for t in taken]}

    def memory(self) -> dict[str, Any]:
        io = [*self.inputs.values(), *self.session.run(self.inputs).values()]
        return {
            "baseline_bytes": self.baseline_bytes,
            "peak_bytes": _peak_bytes(),
            "io_bytes": sum(array.nbytes for array in io),
            "working_bytes": self.session.working_bytes(),
        }


class Sample(NamedTuple):
    """Seconds per call: of the clock, and of all CPUs together."""

    clock: float
    cpu: float


def samples(call: Callable[[], object], seconds: float) -> list[Sample]:
    """Call for about ``seconds`` after one call to warm up."""
    one = timed(call)
    repeats = max(1, round(SHORTEST_SAMPLE_SECONDS / one.clock))
    taken: list[Sample] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        taken.append(timed(call, repeats))
    return taken


def timed(call: Callable[[], object], repeats: int = 1) -> Sample:
    """Call ``repeats`` times; return what one call took."""
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    clock = (time.perf_counter() - start) / repeats
    return Sample(clock, (time.process_time() - cpu) / repeats)


def _peak_bytes() -> int:
    """Return this program's highest resident size (``ru_maxrss`` would count its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _refusal(problem: Exception) -> str | None:
    """The first line of a refusal of ours; our package may not even be imported here."""
    compiler = sys.modules.get("tapeout.ir.errors")
    refused = compiler is not None and isinstance(problem, compiler.CompileError)
    return str(problem).splitlines()[0] if refused else None


def serve(start: Callable[[], object], cpus: str) -> None:
    """Let what ``start`` returns obey until stdin ends, on the given CPUs only."""
    os.sched_setaffinity(0, map(int, cpus.split(",")))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints must not look like an answer
    worker: object = None
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        try:
            worker = worker or start()
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as problem:  # the other side reports it with the engine's name
            answer = {"error": traceback.format_exc(), "refusal": _refusal(problem)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    name, cpus = sys.argv[1:]
    serve(lambda: Worker(name), cpus)

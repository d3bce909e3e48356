"""Language models here and in other engines: prefill, decode, and the start to a first token.

    python tests/bench/llm_peers.py [--formats f32,bf16,w8,w4g32] [--threads 1,2] [--rounds 3]
                                    [--engines tapeout,llamacpp,torch,torch_compiled] [--layers N]
                                    [--shape tinyllama] [--json FILE]

A contest is one format; its engines take turns. Weights are random, and errors are against torch
in f32. Without ``--json`` the results go to ``tests/bench/results/DATE-CPU-llm.json``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cold_start import Start, start
from llm_engines import OURS, PEERS
from llm_shapes import SHAPES, Shape
from machine import Ceilings, build_ceilings, cores, file_gb_s
from report import Report, console, note, results_file
from rich.table import Table
from turns import REST_SECONDS, EngineFailure, Remote, Timing

CONTESTS = {
    "f32": ("tapeout:f32", "llamacpp:F32", "torch:f32", "torch_compiled:f32"),
    "bf16": ("tapeout:bf16", "llamacpp:BF16", "torch:bf16", "torch_compiled:bf16"),
    "w8": ("tapeout:w8", "llamacpp:Q8_0"),
    "w4g32": ("tapeout:w4g32", "llamacpp:Q4_0"),
}
"""The engines of each of our formats, in those of theirs that are nearest."""
REFERENCE = "torch:f32"
WORKER = "llm_worker.py"
PREFILL, PROMPT, STEPS, CONTEXT = 512, 128, 64, 512
"""Tokens: of a prefill, of the prompt before decoding, decoded, and that a cache has room for."""
COMPARED_STEPS = 3
"""Decoded tokens whose logits are compared, after those of the prompt."""


@dataclass(frozen=True)
class Row:
    """One engine in one format at one number of threads."""

    format: str
    engine: str
    version: str
    threads: int
    decode_bytes: int
    """Bytes of weights that each decoded token reads."""
    file_gb_s: float | None
    """How fast its file of weights can be read where it lies; None for an engine without one."""
    prefill_tokens: int
    prefill: Timing
    """Of all these tokens."""
    decode: Timing
    """Of one token."""
    first_token: Timing
    """From the start of a process."""
    load: float
    """Seconds of that from the engine's import on, by the median: load to first token."""
    error: float

    def read_gb_s(self) -> float:
        """Return how fast weights were read while decoding, by the median."""
        return self.decode_bytes / self.decode.median / 1e9


@dataclass(frozen=True)
class Bench:
    """What is measured: a shape, in so many rounds; and which engines failed, and why."""

    shape: Shape
    rounds: int
    folder: Path
    failures: list[str]

    def contest(self, format: str, names: list[str], threads: int, right: np.ndarray) -> list[Row]:
        """Measure the engines in turns; then, with all of them gone, their starts in turns."""
        with ExitStack() as stack:
            remotes: dict[str, Remote] = {}
            facts: dict[str, dict[str, Any]] = {}
            for name in names:
                remote = stack.enter_context(Remote(name, cores()[:threads], WORKER))
                try:
                    facts[name] = self._load(remote, threads)
                    remotes[name] = remote
                except EngineFailure as failure:
                    self.failures.append(str(failure))
            errors = {name: _error(self._logits(it), right) for name, it in remotes.items()}
            paths = {name: fact["path"] for name, fact in facts.items()}
            files = {name: Path(path) for name, path in paths.items() if Path(path).is_file()}
            timings, speeds = self._take_turns(remotes, files, threads)
        first = _first_tokens(paths, threads, self.rounds)
        return [
            Row(
                format=format,
                engine=name,
                version=fact["version"],
                threads=threads,
                decode_bytes=fact["decode_bytes"],
                file_gb_s=speeds.get(name),
                prefill_tokens=PREFILL,
                prefill=timings[name]["prefill"],
                decode=timings[name]["decode"],
                first_token=first[name][0],
                load=first[name][1],
                error=errors[name],
            )
            for name, fact in facts.items()
        ]

    def reference(self) -> np.ndarray:
        """Return the logits that all others are compared with."""
        with Remote(REFERENCE, cores(), WORKER) as remote:
            self._load(remote, len(cores()))
            return self._logits(remote)

    def _load(self, remote: Remote, threads: int) -> dict[str, Any]:
        return remote.ask("load", shape=asdict(self.shape), threads=threads, context=CONTEXT)

    def _logits(self, remote: Remote) -> np.ndarray:
        file = self.folder / "logits.npy"
        remote.ask("logits", file=str(file), prompt=PROMPT, steps=COMPARED_STEPS)
        return np.load(file)

    def _take_turns(
        self, remotes: dict[str, Remote], files: dict[str, Path], threads: int
    ) -> tuple[dict[str, dict[str, Timing]], dict[str, float]]:
        """Return the timings of ``decode`` and ``prefill``, and the best speeds of files.

        After each turn of an engine comes a plain read of its file. The turn that comes first does
        not count: compilers compile for its lengths.
        """
        turns: dict[str, list[dict[str, list[list[float]]]]] = {name: [] for name in remotes}
        speeds = dict.fromkeys(files, 0.0)
        ceilings = build_ceilings(self.folder)
        for remote in remotes.values():
            remote.ask("turn", prompt=PROMPT, steps=1, prefill=PREFILL)
        for _ in range(self.rounds):
            for name, remote in remotes.items():
                time.sleep(REST_SECONDS)
                turns[name].append(remote.ask("turn", prompt=PROMPT, steps=STEPS, prefill=PREFILL))
                if name in files:
                    speed = file_gb_s(ceilings, threads, files[name])
                    speeds[name] = max(speeds[name], speed)
        timings = {
            name: {what: _timing([turn[what] for turn in taken]) for what in ("decode", "prefill")}
            for name, taken in turns.items()
        }
        return timings, speeds


def _error(values: np.ndarray, right: np.ndarray) -> float:
    """Return the length of the difference over that of the reference."""
    return float(np.linalg.norm(values - right) / np.linalg.norm(right))


def _timing(turns: list[list[list[float]]]) -> Timing:
    """Return the timing of turns of samples of clock and CPU seconds."""
    medians = [statistics.median(clock for clock, _ in samples) for samples in turns]
    return Timing.of(medians, min(cpu for samples in turns for _, cpu in samples))


def _first_tokens(
    paths: dict[str, str], threads: int, rounds: int
) -> dict[str, tuple[Timing, float]]:
    """Start every engine ``rounds`` times in turns, after one start that is not timed.

    The timing of whole processes, and the median of the seconds that they say of themselves.
    """
    script = [sys.executable, str(Path(__file__).with_name("llm_first_token.py"))]
    own = [",".join(map(str, cores()[:threads])), str(CONTEXT)]
    commands = {name: [*script, name, path, *own] for name, path in paths.items()}
    for command in commands.values():
        start(command)
    taken: dict[str, list[Start]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(start(command))
    return {
        name: (
            Timing.of([it.seconds for it in starts], min(it.cpu_seconds for it in starts)),
            statistics.median(float(it.line.split()[1]) for it in starts),
        )
        for name, starts in taken.items()
    }


def table(rows: list[Row], shape: Shape, ceilings: dict[int, Ceilings]) -> Table:
    """Lay the rows out: tokens per second with their spread over turns, and what limits them."""
    title = f"{shape.name}: prefill of {PREFILL} tokens, decode of {STEPS} after {PROMPT}, batch 1"
    grid = Table(title=title)
    heads = (
        "prefill tok/s",
        "decode tok/s",
        "CPU ms",
        "GB/s",
        "of read",
        "file GB/s",
        "of file",
        "first token ms",
        "from load",
        "error",
    )
    for head in ("engine", "threads", *heads):
        grid.add_column(head, no_wrap=True)
    previous = None
    for row in rows:
        if previous != (row.format, row.threads):
            grid.add_section()
            previous = row.format, row.threads
        speed = row.read_gb_s()
        first = (row.first_token.median, row.first_token.lowest, row.first_token.highest)
        grid.add_row(
            row.engine,
            str(row.threads),
            _rates(row.prefill, row.prefill_tokens),
            _rates(row.decode, 1),
            f"{row.decode.cpu_lowest * 1e3:.3g}",
            f"{speed:.1f}",
            f"{speed / ceilings[row.threads].read_gb_s:.0%}",
            "" if row.file_gb_s is None else f"{row.file_gb_s:.1f}",
            "" if row.file_gb_s is None else f"{speed / row.file_gb_s:.0%}",
            "{:.0f} ({:.0f}..{:.0f})".format(*(seconds * 1e3 for seconds in first)),
            f"{row.load * 1e3:.0f}",
            f"{row.error:.1e}",
        )
    return grid


def _rates(timing: Timing, tokens: int) -> str:
    seconds = (timing.median, timing.highest, timing.lowest)
    return "{:.3g} ({:.3g}..{:.3g})".format(*(tokens / it for it in seconds))


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed."""
    options = _parse(arguments)
    shape: Shape = options.shape
    report, rows = Report.begin(options.threads), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(shape, options.rounds, Path(folder), [])
        with note("the reference"):
            right = bench.reference()
        for format in options.formats:
            names = [name for name in CONTESTS[format] if name.split(":")[0] in options.engines]
            for threads in options.threads:
                with note(f"{format}, {threads} threads"):
                    rows += bench.contest(format, names, threads, right)
    console().print(table(rows, shape, report.end()))
    report.add("llm_shape", [shape])
    report.add("llm", rows)
    return report.finish(options.json or results_file("-llm"), bench.failures)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Language models here and in other engines.")
    parser.add_argument("--formats", type=_some_of(CONTESTS), default=tuple(CONTESTS))
    parser.add_argument("--engines", type=_some_of((OURS, *PEERS)), default=(OURS, *PEERS))
    parser.add_argument("--threads", type=_numbers, default=(1, 2), help="comma-separated counts")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama")
    parser.add_argument("--layers", type=int, help="instead of the shape's own")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args(arguments)
    shape = SHAPES[options.shape]
    options.shape = replace(shape, layers=options.layers or shape.layers)
    return options


def _some_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(filter(None, text.split(",")))
        if unknown := set(given) - set(known):
            told = f"no {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            raise argparse.ArgumentTypeError(told)
        return given

    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

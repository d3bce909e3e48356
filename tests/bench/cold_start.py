"""Cold start: from the start of a process to the first embedding of a short sentence by MiniLM.

    python tests/bench/cold_start.py [--rounds 15] [--json FILE]

The programs in ``cold/`` are started in turns: ONNX Runtime from Python, ours from Python, and ours
from C; from Python each in an environment as ``pip install`` makes it. The clock runs from just
before the process is started until its line of output has arrived; files are in the page cache.
CPU time is that of the whole process, its end included. All must print the same embedding.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import installs
import numpy as np
from options import parse
from report import Report, console, note
from rich.table import Table
from turns import EngineFailure
from workshop import Workshop
from zoo_models import Model, models

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "runtime" / "c"
MINILM = ("minilm",)
AGREE_WITHIN = 1e-4


@dataclass(frozen=True)
class Row:
    """One program: seconds from its start to its output, and the least CPU time of its starts."""

    program: str
    median: float
    lowest: float
    highest: float
    cpu_lowest: float
    starts: int


@dataclass(frozen=True)
class Start:
    """One start: seconds until the line, CPU seconds of the process, and the line."""

    seconds: float
    cpu_seconds: float
    line: str


def measure(shop: Workshop, model: Model, rounds: int) -> list[Row]:
    """Start every program ``rounds`` times in turns, after one start that is not timed."""
    with note("cold start"):
        commands = _commands(shop, model)
        _must_agree({name: start(command).line for name, command in commands.items()})
        taken: dict[str, list[Start]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                taken[name].append(start(command))
    return [_row(name, starts) for name, starts in taken.items()]


def _commands(shop: Workshop, model: Model) -> dict[str, list[str]]:
    tokens = _tokens(model.folder / "short.npz", shop.folder / "tokens")
    script = [installs.with_package("onnxruntime"), HERE / "cold" / "onnxruntime_main.py"]
    commands = {"onnxruntime, Python": [*map(str, script), str(model.path), str(tokens)]}
    prepared = shop.prepared("tapeout", model) if "tapeout" in shop.engines else None
    if prepared is None:
        return commands
    script = [installs.with_tapeout(), HERE / "cold" / "tapeout_main.py"]
    commands["tapeout, Python"] = [*map(str, script), str(prepared.path), str(tokens)]
    commands["tapeout, C"] = _c_command(prepared.path, tokens, shop.folder / "cold")
    return commands


def _tokens(arrays: Path, folder: Path) -> Path:
    """Unpack the inputs into one file each: reading a zip would be a part of every start."""
    folder.mkdir()
    with np.load(arrays) as held:
        for name in held.files:
            np.save(folder / f"{name}.npy", held[name])
    return folder


def _c_command(artifact: Path, tokens: Path, folder: Path) -> list[str]:
    """Unpack the artifact and link the C program with its code: what a device would hold."""
    # From here on nothing of the runtime's Python is used but the manifest's field names.
    from tapeout.runtime.manifest import Manifest

    with zipfile.ZipFile(artifact) as archive:
        archive.extractall(folder)
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    code = folder / manifest.code[0].file
    program = folder / "tapeout_main"
    source = [str(HERE / "cold" / "tapeout_main.c"), str(code)]
    flags = ["-O2", f"-I{HEADERS}", f"-Wl,-rpath,{code.parent}", "-o", str(program)]
    subprocess.run([os.environ.get("CC", "cc"), *source, *flags], check=True)
    arrays = [np.load(tokens / f"{port.name}.npy") for port in manifest.inputs]
    rows, length = arrays[0].shape
    (folder / "tokens.bin").write_bytes(b"".join(array.tobytes() for array in arrays))
    weights = str(folder / "weights.bin")
    return [str(program), weights, str(rows), str(length), str(folder / "tokens.bin")]


def start(command: list[str]) -> Start:
    """Run one program, which prints a line, to its end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    before, begin = _children_cpu(), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None, "stdout is a pipe"
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
    if process.returncode != 0:
        raise EngineFailure(f"{command[0]} ended with status {process.returncode}")
    return Start(seconds, _children_cpu() - before, line)


def _children_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _must_agree(lines: dict[str, str]) -> None:
    rows = {name: np.array(line.split(), dtype=float) for name, line in lines.items()}
    reference = next(iter(rows.values()))
    for name, row in rows.items():
        error = float(np.abs(row - reference).max())
        if error > AGREE_WITHIN:
            raise EngineFailure(f"{name}: its embedding is off by {error:.1e}")


def _row(name: str, starts: list[Start]) -> Row:
    seconds = [start.seconds for start in starts]
    cpu = min(start.cpu_seconds for start in starts)
    return Row(name, statistics.median(seconds), min(seconds), max(seconds), cpu, len(starts))


def table(rows: list[Row]) -> Table:
    """Lay the rows out: milliseconds, and the share of ONNX Runtime's."""
    heads = ("program", "ms", "of onnxruntime", "CPU ms, least", "of onnxruntime")
    grid = Table(*heads, title="process start to first MiniLM output")
    for row in rows:
        low, mid, high = (f"{s * 1e3:.1f}" for s in (row.lowest, row.median, row.highest))
        share = f"{row.median / rows[0].median:.2f}"
        cpu = f"{row.cpu_lowest / rows[0].cpu_lowest:.2f}"
        grid.add_row(
            row.program, f"{mid} ({low}..{high})", share, f"{row.cpu_lowest * 1e3:.1f}", cpu
        )
    return grid


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when a program failed."""
    options = parse(arguments, "From process start to the first MiniLM output.")
    with Workshop(options.engines, (1,)) as shop:
        report = Report.begin(shop.threads)
        rows = measure(shop, models(MINILM)[0], options.rounds)
        report.end()
        console().print(table(rows))
        report.add("cold_start", rows)
        return report.finish(options.json, shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Cold start: from the start of a process to the first embedding of a short sentence by MiniLM.

    python tests/bench/cold_start.py [--rounds 15] [--json FILE]

The programs in ``cold/`` are started in turns: ONNX Runtime from Python, ours from Python, and ours
from C. The clock runs from just before the process is started until its line of output has
arrived; files are in the page cache. All must print the same embedding.
"""

import os
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

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
    """One program: seconds from its start to its output."""

    program: str
    median: float
    lowest: float
    highest: float
    starts: int


def measure(shop: Workshop, model: Model, rounds: int) -> list[Row]:
    """Start every program ``rounds`` times in turns, after one start that is not timed."""
    with note("cold start"):
        commands = _commands(shop, model)
        first = {name: _start(command)[1] for name, command in commands.items()}
        _must_agree(first)
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                taken[name].append(_start(command)[0])
    return [_row(name, seconds) for name, seconds in taken.items()]


def _commands(shop: Workshop, model: Model) -> dict[str, list[str]]:
    tokens = str(model.folder / "short.npz")
    script = [sys.executable, str(HERE / "cold" / "onnxruntime_main.py")]
    commands = {"onnxruntime, Python": [*script, str(model.path), tokens]}
    prepared = shop.prepared("tapeout", model) if "tapeout" in shop.engines else None
    if prepared is None:
        return commands
    script = [sys.executable, str(HERE / "cold" / "tapeout_main.py")]
    commands["tapeout, Python"] = [*script, str(prepared.path), tokens]
    commands["tapeout, C"] = _c_command(prepared.path, Path(tokens), shop.folder / "cold")
    return commands


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
    with np.load(tokens) as arrays:
        rows, length = arrays["input_ids"].shape
        (folder / "tokens.bin").write_bytes(
            b"".join(arrays[port.name].tobytes() for port in manifest.inputs)
        )
    weights = str(folder / "weights.bin")
    return [str(program), weights, str(rows), str(length), str(folder / "tokens.bin")]


def _start(command: list[str]) -> tuple[float, str]:
    """Run one program; return the seconds until its line has arrived, and the line."""
    # An installed package comes with bytecode; a source tree must be allowed to keep its own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None, "stdout is a pipe"
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise EngineFailure(f"{command[0]} ended with status {process.returncode}")
    return seconds, line


def _must_agree(lines: dict[str, str]) -> None:
    rows = {name: np.array(line.split(), dtype=float) for name, line in lines.items()}
    reference = next(iter(rows.values()))
    for name, row in rows.items():
        error = float(np.abs(row - reference).max())
        if error > AGREE_WITHIN:
            raise EngineFailure(f"{name}: its embedding is off by {error:.1e}")


def _row(name: str, seconds: list[float]) -> Row:
    return Row(name, statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def table(rows: list[Row]) -> Table:
    """Lay the rows out: milliseconds, and the share of ONNX Runtime's."""
    grid = Table("program", "ms", "of onnxruntime", title="process start to first MiniLM output")
    for row in rows:
        low, mid, high = (f"{s * 1e3:.1f}" for s in (row.lowest, row.median, row.highest))
        grid.add_row(row.program, f"{mid} ({low}..{high})", f"{row.median / rows[0].median:.2f}")
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

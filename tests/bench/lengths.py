"""One program for all numbers of tokens, against a program for each.

    python tests/bench/lengths.py [--tokens 1,2,8,32,128,512] [--formats f32,w4g32] [--layers 4]
                                  [--threads 1,2] [--rounds 9] [--json FILE]

A language model of TinyLlama's sizes with fewer layers is compiled once for 1 to 2048 tokens, and
once for each number of tokens alone. Both run a prompt of that length, in turns. The time that a
program of its own saves is what choosing among several by length could gain; its code is the cost.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from llm_shapes import SHAPES, Shape, tokens
from machine import cores
from report import Report, console, note, results_file
from rich.table import Table

import tapeout
from tapeout.runtime.program import Program

ANY = 0
"""Stands for the program of all numbers of tokens."""


@dataclass(frozen=True)
class Row:
    """One number of tokens: seconds of a prompt by both programs, and bytes of their code."""

    format: str
    threads: int
    tokens: int
    whole: float
    alone: float
    whole_bytes: int
    alone_bytes: int


def compiled(
    shape: Shape, formats: list[str], counts: list[int], folder: Path
) -> dict[str, dict[int, Path]]:
    """Return artifacts of each format by number of tokens."""
    from llm_models import checkpoint

    with note("drawing weights"):
        model = checkpoint(shape, "f32")
    found: dict[str, dict[int, Path]] = {}
    for format in formats:
        for count in (ANY, *counts):
            with note(f"compiling {format} for {count or 'any number of'} tokens"):
                found.setdefault(format, {})[count] = tapeout.compile(
                    model,
                    "cpu",
                    output=folder / f"{format}-{count}.tapeout",
                    dims={"T": count} if count else None,
                    quantize=None if format == "f32" else format,
                )
    return found


def code_bytes(path: Path) -> int:
    """Return the size of the machine code of an artifact."""
    with zipfile.ZipFile(path) as archive:
        return sum(i.file_size for i in archive.infolist() if i.filename.endswith(".so"))


def seconds(program: Program, ids: np.ndarray) -> float:
    """Return the time of a prompt in an empty session."""
    session = program.decoding(max_length=len(ids))
    begin = time.perf_counter()
    session.prefill([ids])
    return time.perf_counter() - begin


def measure(
    shape: Shape, format: str, paths: dict[int, Path], threads: int, rounds: int
) -> list[Row]:
    """Measure one format, the two programs of each number of tokens in turns."""
    os.sched_setaffinity(0, cores()[:threads])
    rows: list[Row] = []
    with tapeout.load(paths[ANY], threads=threads) as whole:
        for count in (count for count in paths if count):
            ids = tokens(shape, count)
            with tapeout.load(paths[count], threads=threads) as alone:
                pairs = [(seconds(whole, ids), seconds(alone, ids)) for _ in range(rounds + 1)]
            # The first round reads weights from the file.
            a, b = (statistics.median(times) for times in zip(*pairs[1:], strict=True))
            sizes = code_bytes(paths[ANY]), code_bytes(paths[count])
            rows.append(Row(format, threads, count, a, b, *sizes))
    return rows


def table(rows: list[Row]) -> Table:
    """Lay the rows out, and what the code of all would be."""
    grid = Table(title="one program for all numbers of tokens, and one for each")
    for head in (
        "format",
        "threads",
        "tokens",
        "ms",
        "alone ms",
        "alone/it",
        "code kB",
        "alone kB",
    ):
        grid.add_column(head, justify="right")
    for row in rows:
        grid.add_row(
            row.format,
            str(row.threads),
            str(row.tokens),
            f"{row.whole * 1e3:.1f}",
            f"{row.alone * 1e3:.1f}",
            f"{row.alone / row.whole:.2f}",
            f"{row.whole_bytes / 1e3:.0f}",
            f"{row.alone_bytes / 1e3:.0f}",
        )
    return grid


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="One program for all lengths, or one for each.")
    parser.add_argument("--tokens", default="1,2,8,32,128,512", help="comma-separated counts")
    parser.add_argument("--formats", default="f32,w4g32", help="comma-separated formats")
    parser.add_argument("--shape", default="tinyllama", choices=list(SHAPES))
    parser.add_argument("--layers", type=int, default=4, help="layers of the model")
    parser.add_argument("--threads", default="1,2", help="comma-separated counts")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each pair")
    parser.add_argument("--json", type=Path, help="write the results here")
    given = parser.parse_args(arguments)
    threads = tuple(map(int, given.threads.split(",")))
    shape = replace(SHAPES[given.shape], layers=given.layers)
    counts = [int(count) for count in given.tokens.split(",")]
    allowed = os.sched_getaffinity(0)
    report, rows = Report.begin(threads), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        paths = compiled(shape, given.formats.split(","), counts, Path(folder))
        for count in threads:
            for format, of_format in paths.items():
                rows += measure(shape, format, of_format, count, given.rounds)
            os.sched_setaffinity(0, allowed)
    report.end()
    console().print(table(rows))
    for format in given.formats.split(","):
        one = {r.tokens: r for r in rows if r.format == format}
        apart = sum(r.alone_bytes for r in one.values())
        whole = next(iter(one.values())).whole_bytes
        console().print(f"{format}: {whole / 1e3:.0f} kB of code for all, {apart / 1e3:.0f} apart")
    report.add("lengths", rows)
    return report.finish(given.json or results_file("-lengths"), [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Products of one row with weights of few bits, against the bandwidth that memory has.

    python tests/bench/gemv.py [--formats w8,w4g32] [--device avx2] [--threads 1,2] [--rounds 30]
                                [--json FILE]

A model is a chain of products ``[1, 4096] x [4096, 4096]``, as many as make 100 MB of weights in a
format, so that weights come from memory; a call's time over their number is a product's, rounding
of its activations included. Beside it stands a call of a model of one product from Python, as many
copies of it in turns as make the same bytes: to this come what a call costs in Python and what
waking the threads of a program that slept costs. Formats take turns. Nothing can be faster than
reading the weights once.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from machine import cores
from onnx import helper, numpy_helper
from report import Report, console, note, results_file
from rich.table import Table

import tapeout
from tapeout.runtime.program import Program

SIZE = 4096
FORMATS = ("f32", "bf16", "fp16", "w8", "w4g32", "w4g128", "w3g64", "w2g32")
RESIDENT_BYTES = 100_000_000
"""Weights of one format in memory: several times what caches hold."""


@dataclass(frozen=True)
class Artifacts:
    """What is measured of one format: one product, and a chain of them."""

    one: Path
    chain: Path
    layers: int


@dataclass(frozen=True)
class Row:
    """One format at one number of threads: seconds of a product, and how far its result is off.

    ``median`` and ``lowest`` are of a product of the chain, ``alone`` the median of a call of the
    model of one.
    """

    format: str
    threads: int
    weight_bytes: int
    median: float
    lowest: float
    alone: float
    error: float

    def share(self, read_gb_s: float) -> float:
        """Return how much of the bandwidth the weights were read at, by the median."""
        return self.weight_bytes / self.median / 1e9 / read_gb_s


def model(layers: int) -> onnx.ModelProto:
    """Return a chain of products with normal weights, each layer with its own."""
    generator = np.random.default_rng(0)
    weights = [
        generator.standard_normal((SIZE, SIZE), dtype=np.float32) / 64 for _ in range(layers)
    ]
    names = ["x", *(f"x{i}" for i in range(1, layers)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)],
        "gemv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, SIZE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, SIZE])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def compiled(formats: list[str], target: str, folder: Path) -> dict[str, Artifacts]:
    """Return artifacts for each format."""
    made: dict[str, Artifacts] = {}
    for name in formats:
        quantize = None if name == "f32" else name
        with note(f"compiling {name}"):
            one, chain = folder / f"{name}-one.tapeout", folder / f"{name}-chain.tapeout"
            tapeout.compile(model(1), target=target, output=one, quantize=quantize)
            layers = -(-RESIDENT_BYTES // weight_bytes(one))
            tapeout.compile(model(layers), target=target, output=chain, quantize=quantize)
        made[name] = Artifacts(one, chain, layers)
    return made


def measure(artifacts: dict[str, Artifacts], threads: int, rounds: int) -> list[Row]:
    """Measure all formats in turns, on the cores that other measurements use."""
    x = np.random.default_rng(1).standard_normal((1, SIZE)).astype(np.float32)
    os.sched_setaffinity(0, cores()[:threads])
    chains = {name: tapeout.load(made.chain, threads=threads) for name, made in artifacts.items()}
    copies: dict[str, list[Program]] = {}
    for name, made in artifacts.items():
        # Weights are mapped: programs of one file would share them.
        files = [made.one.with_stem(f"{made.one.stem}-{i}") for i in range(made.layers)]
        copies[name] = [
            tapeout.load(shutil.copy(made.one, file), threads=threads) for file in files
        ]
    seconds: dict[str, list[float]] = {name: [] for name in artifacts}
    alone: dict[str, list[float]] = {name: [] for name in artifacts}
    for _ in range(rounds):
        for name, made in artifacts.items():
            seconds[name].append(_seconds([chains[name]], x) / made.layers)
            alone[name].append(_seconds(copies[name], x) / made.layers)
    exact = x @ numpy_helper.to_array(model(1).graph.initializer[0])
    rows: list[Row] = []
    for name, times in seconds.items():
        got = copies[name][0].run({"x": x})["y"]
        error = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
        size = weight_bytes(artifacts[name].one)
        median, lowest = statistics.median(times), min(times)
        rows.append(Row(name, threads, size, median, lowest, statistics.median(alone[name]), error))
    return rows


def _seconds(programs: list[Program], x: np.ndarray) -> float:
    """Return the time of calling each program once."""
    begin = time.perf_counter()
    for program in programs:
        program.run({"x": x})
    return time.perf_counter() - begin


def weight_bytes(path: Path) -> int:
    """Return the size of the weights of an artifact."""
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("weights.bin").file_size


def table(rows: list[Row], report: Report) -> Table:
    """Lay the rows out: time, bytes, and both as bandwidth beside what was measured."""
    grid = Table(title=f"[1, {SIZE}] x [{SIZE}, {SIZE}], weights from memory")
    for head in (
        "format",
        "threads",
        "us",
        "least us",
        "MB",
        "GB/s",
        "of read",
        "alone us",
        "error",
    ):
        grid.add_column(head, justify="right")
    for row in rows:
        grid.add_row(
            row.format,
            str(row.threads),
            f"{row.median * 1e6:.0f}",
            f"{row.lowest * 1e6:.0f}",
            f"{row.weight_bytes / 1e6:.1f}",
            f"{row.weight_bytes / row.median / 1e9:.1f}",
            f"{row.share(report.ceilings[row.threads].read_gb_s):.0%}",
            f"{row.alone * 1e6:.0f}",
            f"{row.error:.4f}",
        )
    return grid


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Products of one row, against the bandwidth.")
    parser.add_argument("--formats", default=",".join(FORMATS), help="comma-separated formats")
    parser.add_argument("--device", help="a CPU device; this machine's best without")
    parser.add_argument("--threads", default="1,2", help="comma-separated counts")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each format")
    parser.add_argument("--json", type=Path, help="write the results here")
    given = parser.parse_args(arguments)
    threads = tuple(map(int, given.threads.split(",")))
    allowed = os.sched_getaffinity(0)
    report, rows = Report.begin(threads), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        target = f"cpu:{given.device}" if given.device else "cpu"
        artifacts = compiled(given.formats.split(","), target, Path(folder))
        for count in threads:
            rows += measure(artifacts, count, given.rounds)
            os.sched_setaffinity(0, allowed)
    report.end()
    console().print(table(rows, report))
    report.add("gemv", rows)
    return report.finish(given.json or results_file("-gemv"), [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

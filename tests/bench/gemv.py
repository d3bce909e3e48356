"""Products of one row with weights of few bits, against the bandwidth that memory has.

    python tests/bench/gemv.py [--formats w8,w4g32] [--device avx2] [--threads 1,2] [--rounds 30]
                                [--json FILE]

A model is one product ``[1, 4096] x [4096, 4096]``, compiled in each format and called from Python:
rounding the activations is part of it. As many copies of its file are loaded as make 160 MB of
weights, and one is called after the other: weights come from memory, as in a model of many layers.
Formats take turns. Nothing can be faster than reading the weights once.
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
RESIDENT_BYTES = 160_000_000
"""Weights of one format in memory: several times what caches hold."""


@dataclass(frozen=True)
class Row:
    """One format at one number of threads: seconds of a call, and how far the result is off."""

    format: str
    threads: int
    weight_bytes: int
    median: float
    lowest: float
    error: float

    def share(self, read_gb_s: float) -> float:
        """Return how much of the bandwidth the weights were read at, by the median."""
        return self.weight_bytes / self.median / 1e9 / read_gb_s


def model() -> onnx.ModelProto:
    """Return the product with normal weights."""
    weight = np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32) / 64
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "gemv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, SIZE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, SIZE])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def compiled(formats: list[str], target: str, folder: Path) -> dict[str, Path]:
    """Return an artifact for each format."""
    made: dict[str, Path] = {}
    source = model()
    for name in formats:
        with note(f"compiling {name}"):
            path = folder / f"{name}.tapeout"
            quantize = None if name == "f32" else name
            made[name] = tapeout.compile(source, target=target, output=path, quantize=quantize)
    return made


def measure(artifacts: dict[str, Path], threads: int, rounds: int) -> list[Row]:
    """Measure all formats in turns, on the cores that other measurements use."""
    x = np.random.default_rng(1).standard_normal((1, SIZE)).astype(np.float32)
    os.sched_setaffinity(0, cores()[:threads])
    copies: dict[str, list[Program]] = {}
    for name, path in artifacts.items():
        count = -(-RESIDENT_BYTES // weight_bytes(path))
        # Weights are mapped: programs of one file would share them.
        files = [path.with_stem(f"{path.stem}-{i}") for i in range(count)]
        copies[name] = [tapeout.load(shutil.copy(path, file), threads=threads) for file in files]
    results = {name: programs[0].run({"x": x})["y"] for name, programs in copies.items()}
    seconds: dict[str, list[float]] = {name: [] for name in copies}
    for _ in range(rounds):
        for name, programs in copies.items():
            begin = time.perf_counter()
            for program in programs:
                program.run({"x": x})
            seconds[name].append((time.perf_counter() - begin) / len(programs))
    exact = x @ numpy_helper.to_array(model().graph.initializer[0])
    rows: list[Row] = []
    for name, times in seconds.items():
        error = float(np.linalg.norm(results[name] - exact) / np.linalg.norm(exact))
        size = weight_bytes(artifacts[name])
        rows.append(Row(name, threads, size, statistics.median(times), min(times), error))
    return rows


def weight_bytes(path: Path) -> int:
    """Return the size of the weights of an artifact."""
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("weights.bin").file_size


def table(rows: list[Row], report: Report) -> Table:
    """Lay the rows out: time, bytes, and both as bandwidth beside what was measured."""
    grid = Table(title=f"[1, {SIZE}] x [{SIZE}, {SIZE}], weights from memory")
    for head in ("format", "threads", "us", "least us", "MB", "GB/s", "of read", "error"):
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

"""Products with 4x1 blocks of zeros against our own dense ones, ``[128, 768] x [768, 768]``.

    python tests/bench/sparse.py [--zeros 0.5,0.8,0.9] [--rounds 60] [--device NAME] [--json FILE]

The blocks that are zero are drawn at random. Programs take turns, on one core; times are those of
the runtime's profile, so calling from Python is no part of them. Each type is measured twice:

* *product*: the product's own kernel. Of bytes it reads u8 and gives sums in i32. The sparse one
  turns its activations first, and its sums after: that is in it.
* *layer*: f32 in, f32 out, with a bias. Of bytes it has the kernel that rounds activations, and the
  scales (``int8-dynamic``).

Sparse programs are compiled as if they always paid, whatever the device's file says of it.
"""

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from machine import cores
from onnx import TensorProto, helper, numpy_helper
from report import Report, console, note, results_file
from rich.table import Table

import tapeout
from tapeout.frontend import driver
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.sparsify.encode_products import EncodeProducts
from tapeout.runtime import artifact
from tapeout.runtime.program import Program
from tapeout.targets.cpu import target as cpu

M, K, N = 128, 768, 768
WAYS = ("i8 product", "i8 layer", "f32 product", "f32 layer")


@dataclass(frozen=True)
class Row:
    """One way at one part of zero blocks (0: dense): seconds of all its kernels."""

    way: str
    zeros: float
    median: float
    least: float


def model(way: str, zeros: float) -> onnx.ModelProto:
    """Return the product, or the layer, with zero blocks at random."""
    random = np.random.default_rng(round(100 * zeros))
    kept = np.repeat(random.random((N // 4, K)) >= zeros, 4, axis=0)
    if way == "i8 product":
        weight = (random.integers(-127, 128, (N, K)) * kept).astype(np.int8)
        nodes, taken, given = ["MatMulInteger"], TensorProto.UINT8, TensorProto.INT32
    else:
        weight = (random.standard_normal((N, K)) * kept / 16).astype(np.float32)
        nodes, taken, given = ["MatMul"], TensorProto.FLOAT, TensorProto.FLOAT
    nodes += ["Add"] if way.endswith("layer") else []
    names = ["x", *(f"t{i}" for i in range(len(nodes) - 1)), "y"]
    beside = ["w", "bias"]
    bias = random.standard_normal(N).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node(kind, [names[i], beside[i]], [names[i + 1]])
            for i, kind in enumerate(nodes)
        ],
        "layer",
        [helper.make_tensor_value_info("x", taken, [M, K])],
        [helper.make_tensor_value_info("y", given, [M, N])],
        [
            numpy_helper.from_array(np.ascontiguousarray(weight.T), "w"),
            *([numpy_helper.from_array(bias, "bias")] if len(nodes) > 1 else []),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def compiled(way: str, zeros: float, device: str, folder: Path) -> Path:
    """Return the artifact; dense for no zeros, sparse for any."""
    chosen = driver.targeted(f"cpu:{device}" if device else "cpu")
    module = driver.import_any(model(way, zeros))
    passes: list[Pass] = [QuantizeLayers("int8-dynamic")] if way == "i8 layer" else []
    if zeros:
        passes.append(EncodeProducts(break_even_i8=0.0, break_even_f32=0.0))
    driver.lower(module, requested=passes)
    built = cpu.compile_module(module, chosen)
    path = folder / f"{way}-{zeros}.tapeout"
    artifact.write(path, built.manifest, built.files, "file")
    return path


def measure(way: str, parts: list[float], device: str, rounds: int, folder: Path) -> list[Row]:
    """Measure the dense program and the sparse ones in turns."""
    programs: dict[float, Program] = {}
    for zeros in (0.0, *parts):
        with note(f"compiling {way}, {zeros:.0%} zeros"):
            programs[zeros] = tapeout.load(compiled(way, zeros, device, folder), threads=1)
    random = np.random.default_rng(1)
    bytes_ = way == "i8 product"
    x = random.integers(0, 256, (M, K)) if bytes_ else random.standard_normal((M, K))
    inputs = {"x": x.astype(np.uint8 if bytes_ else np.float32)}
    seconds: dict[float, list[float]] = {zeros: [] for zeros in programs}
    for _ in range(rounds):
        for zeros, program in programs.items():
            program.run(inputs)  # the caches belong to the program before
            found = program.profile(inputs, 3)
            seconds[zeros].append(sum(kernel.nanoseconds / kernel.calls for kernel in found) / 1e9)
    return [Row(way, z, statistics.median(t), min(t)) for z, t in seconds.items()]


def table(rows: list[Row]) -> Table:
    """Lay the rows out, each beside the dense program of its way."""
    grid = Table(title=f"[{M}, {K}] x [{K}, {N}], one core")
    for head in ("way", "zero blocks", "us", "least us", "dense/it", "of least"):
        grid.add_column(head, justify="right")
    dense = {row.way: row for row in rows if not row.zeros}
    for row in rows:
        base = dense[row.way]
        grid.add_row(
            row.way,
            f"{row.zeros:.0%}" if row.zeros else "dense",
            f"{row.median * 1e6:.0f}",
            f"{row.least * 1e6:.0f}",
            f"{base.median / row.median:.2f}",
            f"{base.least / row.least:.2f}",
        )
    return grid


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Sparse products against dense ones.")
    parser.add_argument("--zeros", default="0.5,0.8,0.9", help="parts of blocks that are zero")
    parser.add_argument("--ways", default=",".join(WAYS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each program")
    parser.add_argument("--device", default="", help="a CPU device; this machine's if left out")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    given = parser.parse_args(arguments)
    parts = [float(part) for part in given.zeros.split(",")]
    os.sched_setaffinity(0, cores()[:1])
    report, rows = Report.begin((1,)), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        for way in given.ways.split(","):
            rows += measure(way, parts, given.device, given.rounds, Path(folder))
    report.end()
    console().print(table(rows))
    report.add("sparse", rows)
    return report.finish(given.json or results_file("-sparse"), [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

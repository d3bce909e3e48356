"""Latency of the six models: this project and its peers in turns, with the machine's ceilings.

    python tests/bench/latency.py [--models resnet50,minilm] [--threads 1,2]
                                  [--against onnxruntime,openvino] [--json FILE]

Batch 1, f32, numpy arrays in and out through each engine's ordinary call. Reported is the median
over turns; `ours/best` compares medians with the faster peer; flop are those of the model's
products and convolutions as torch counts them, the peak is measured in the same run.
"""

import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import Ceilings
from options import parse
from report import Report, console, note
from rich.table import Table
from turns import Remote, Timing, take_turns
from workshop import Workshop
from zoo_models import Model, models

OURS = "tapeout"


@dataclass(frozen=True)
class Row:
    """One model at one number of threads: milliseconds by engine, and agreement of outputs."""

    model: str
    threads: int
    flop: int | None
    timings: dict[str, Timing]
    errors: dict[str, float]

    def peers(self) -> dict[str, float]:
        """Return the medians, in seconds, of the engines that are not ours."""
        return {name: t.median for name, t in self.timings.items() if name != OURS}

    def ratio(self) -> float | None:
        """Return our median over the best peer's; None when one side is missing."""
        peers = self.peers()
        ours = self.timings.get(OURS)
        return ours.median / min(peers.values()) if ours and peers else None

    def gflops(self) -> float | None:
        """Return the speed of our engine, or of the best peer when ours did not run."""
        if not self.flop or not self.timings:
            return None
        ours = self.timings.get(OURS)
        return self.flop / (ours.median if ours else min(self.peers().values())) / 1e9


def measure(shop: Workshop, chosen: list[Model], rounds: int, seconds: float) -> list[Row]:
    """Measure every model at every number of threads."""
    rows: list[Row] = []
    for model in chosen:
        for threads in shop.threads:
            with note(f"{model.name}, {threads} threads"):
                rows.append(_measure(shop, model, threads, rounds, seconds))
    return rows


def _measure(shop: Workshop, model: Model, threads: int, rounds: int, seconds: float) -> Row:
    with ExitStack() as stack:
        remotes: dict[str, Remote] = {}
        for name in shop.engines:
            remote = shop.loaded(name, model, threads)
            if remote is not None:
                remotes[name] = stack.enter_context(remote)
        errors = _disagreement(remotes, shop.folder)
        timings = take_turns(remotes, rounds=rounds, seconds=seconds)
    return Row(model.name, threads, model.flop, timings, errors)


def _disagreement(remotes: dict[str, Remote], folder: Path) -> dict[str, float]:
    """Return each engine's largest error over the outputs, relative to their largest magnitude.

    The last engine's outputs are the reference, so that ours is never its own judge.
    """
    outputs: dict[str, dict[str, np.ndarray]] = {}
    for name, remote in remotes.items():
        file = folder / f"{name}.npz"
        remote.ask("outputs", file=str(file))
        with np.load(file) as arrays:
            outputs[name] = {key: arrays[key] for key in arrays.files}
    if not outputs:
        return {}
    reference = next(reversed(outputs.values()))
    return {name: _error(values, reference) for name, values in outputs.items()}


def _error(values: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    assert values.keys() == reference.keys(), f"outputs {list(values)} and {list(reference)}"
    return max(
        float(np.abs(values[name] - right).max() / np.abs(right).max())
        for name, right in reference.items()
    )


def geomean(rows: list[Row]) -> float | None:
    """Return the geometric mean of the ratios that there are."""
    ratios = [ratio for row in rows if (ratio := row.ratio()) is not None]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def table(rows: list[Row], engines: tuple[str, ...], ceilings: dict[int, Ceilings]) -> Table:
    """Lay the rows out: medians in ms with the spread over turns."""
    heads = ["threads", *(f"{name} ms" for name in engines), "ours/best"]
    grid = Table("model", *heads, "GFLOP/s", "of peak", "error", title="latency, batch 1, f32")
    for row in rows:
        cells = [_cell(row.timings.get(name)) for name in engines]
        ratio, speed = row.ratio(), row.gflops()
        share = _share(speed, ceilings[row.threads])
        error = f"{max(row.errors.values()):.1e}" if row.errors else "-"
        last = [f"{ratio:.2f}" if ratio else "-", f"{speed:.0f}" if speed else "-", share, error]
        grid.add_row(row.model, str(row.threads), *cells, *last)
    mean = geomean(rows)
    if mean is not None:
        grid.add_section()
        grid.add_row("geometric mean", "", *("" for _ in engines), f"{mean:.2f}")
    return grid


def _share(gflops: float | None, top: Ceilings) -> str:
    """Return the share of the FMA peak; above 1 it is the peak that was measured badly."""
    if gflops is None:
        return "-"
    share = gflops / top.fma_gflops
    return f"{share:.0%}" if share <= 1 else "peak disturbed"


def _cell(timing: Timing | None) -> str:
    if timing is None:
        return "failed"
    low, mid, high = map(_ms, (timing.lowest, timing.median, timing.highest))
    return f"{mid} ({low}..{high})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds > 0.1 else f"{seconds * 1e3:.3g}"


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed on a model."""
    options = parse(arguments, "Latency of the six models against other engines.")
    with Workshop(options.engines, options.threads) as shop:
        report = Report.begin(options.threads)
        rows = measure(shop, models(options.models), options.rounds, options.seconds)
        ceilings = report.end()
        console().print(table(rows, options.engines, ceilings))
        report.add("latency", rows)
        return report.finish(options.json, shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Formats of fewer bits against the peers' own: speed in turns, and how far the results are off.

    python tests/bench/quant.py [--models bert-base,resnet50] [--threads 1,2]
                                [--against onnxruntime,openvino] [--json FILE]

Each contest is one model in one format: ours, ours in f32 for a base line, and every peer that has
such a format. Errors are against the f32 model in ONNX Runtime, which is not measured. Clock times
are medians over turns; CPU times are the least of all calls. Without ``--json`` the results go to
``tests/bench/results/DATE-CPU-quant.json``.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from machine import Ceilings
from options import Options, parse
from quantized import calibrated, dynamic, static
from report import Report, console, note, results_file
from rich.table import Table
from turns import Remote, Timing, take_turns
from workshop import Workshop
from zoo_models import Model, models

OURS = "tapeout"
BASE = "tapeout f32"

FORMATS = {"resnet50": ("int8",)}
"""Formats by model; the others have ``OTHERS``."""
OTHERS = ("int8-dynamic", "bf16")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Way:
    """A way to compute a model: an engine, with its format, and the model it is given."""

    engine: str
    model: Model


@dataclass(frozen=True)
class Row:
    """One contest at one number of threads: timings, errors and refusals, each by way."""

    model: str
    format: str
    threads: int
    flop: int | None
    timings: dict[str, Timing]
    errors: dict[str, float]
    refusals: dict[str, str] = field(default_factory=dict[str, str])

    def peers(self) -> dict[str, Timing]:
        """Return the timings of ways that are not ours."""
        return {name: t for name, t in self.timings.items() if not name.startswith(OURS)}

    def against_best(self, figure: Callable[[Timing], float]) -> float | None:
        """Return ours over the best peer's; None when one side is missing."""
        ours, peers = self.timings.get(f"{OURS} {self.format}"), self.peers().values()
        return figure(ours) / min(map(figure, peers)) if ours and peers else None


def contests(model: Model, options: Options) -> dict[str, dict[str, Way]]:
    """Return the ways of every format of this model, by the names that the table has for them."""
    found: dict[str, dict[str, Way]] = {}
    for format in FORMATS.get(model.name, OTHERS):
        given = calibrated(model) if format == "int8" else model
        ways = {BASE: Way(OURS, given), f"{OURS} {format}": Way(f"{OURS}:{format}", given)}
        ways |= PEERS[format](given, options.engines)
        found[format] = {n: w for n, w in ways.items() if _kind(w.engine) in options.engines}
    return found


def _kind(engine: str) -> str:
    return engine.partition(":")[0]


def _dynamic_peers(model: Model, engines: tuple[str, ...]) -> dict[str, Way]:
    if "onnxruntime" not in engines:
        return {}
    return {
        "onnxruntime per tensor": Way("onnxruntime", dynamic(model, per_channel=False)),
        "onnxruntime per channel": Way("onnxruntime", dynamic(model, per_channel=True)),
    }


def _static_peers(model: Model, engines: tuple[str, ...]) -> dict[str, Way]:
    peers = [name for name in ("onnxruntime", "openvino") if name in engines]
    return {f"{name} QDQ": Way(name, static(model)) for name in peers}


def _bf16_peers(model: Model, _: tuple[str, ...]) -> dict[str, Way]:
    return {"openvino bf16": Way("openvino:bf16", model)}


PEERS = {"int8-dynamic": _dynamic_peers, "int8": _static_peers, "bf16": _bf16_peers}


def measure(shop: Workshop, chosen: list[Model], options: Options) -> list[Row]:
    """Measure every contest of every model at every number of threads."""
    rows: list[Row] = []
    for model in chosen:
        with note(f"{model.name}: models in 8 bits, and the reference"):
            by_format = contests(model, options)
            reference = _reference(shop, model)
        for format, ways in by_format.items():
            for threads in shop.threads:
                with note(f"{model.name}, {format}, {threads} threads"):
                    timings, outputs = _measure(shop, ways, threads, options)
                errors = {name: _error(values, reference) for name, values in outputs.items()}
                keys = {name: (way.engine, way.model.name) for name, way in ways.items()}
                refusals = {n: shop.refusals[k] for n, k in keys.items() if k in shop.refusals}
                rows.append(Row(model.name, format, threads, model.flop, timings, errors, refusals))
    return rows


def _measure(
    shop: Workshop, ways: dict[str, Way], threads: int, options: Options
) -> tuple[dict[str, Timing], dict[str, Arrays]]:
    with ExitStack() as stack:
        remotes: dict[str, Remote] = {}
        for name, way in ways.items():
            remote = shop.loaded(way.engine, way.model, threads)
            if remote is not None:
                remotes[name] = stack.enter_context(remote)
        outputs = {name: _outputs(remote, shop.folder) for name, remote in remotes.items()}
        return take_turns(remotes, rounds=options.rounds, seconds=options.seconds), outputs


def _reference(shop: Workshop, model: Model) -> Arrays:
    """The f32 model's outputs; an engine that we did not write has to be there to judge."""
    remote = shop.loaded("onnxruntime", model, 1)
    assert remote is not None, shop.failures[-1]
    with remote:
        return _outputs(remote, shop.folder)


def _outputs(remote: Remote, folder: Path) -> Arrays:
    file = folder / "outputs.npz"
    remote.ask("outputs", file=str(file))
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _error(values: Arrays, reference: Arrays) -> float:
    """Return the length of the difference over that of the reference, of the worst output."""
    assert values.keys() == reference.keys(), f"outputs {list(values)} and {list(reference)}"
    return max(
        float(np.linalg.norm(values[name] - right) / np.linalg.norm(right))
        for name, right in reference.items()
    )


def table(rows: list[Row], ceilings: dict[int, Ceilings]) -> Table:
    """Lay the rows out: a line for each contest, and below it one for each of its ways."""
    heads = ("ms", "CPU ms", "ours/it", "of CPU", "it/f32", "GOP/s", "of dots", "error")
    grid = Table(title="formats of fewer bits, batch 1")
    for head in ("way", *heads):
        grid.add_column(head, no_wrap=True)
    for row in rows:
        grid.add_row(f"[bold]{_title(row)}[/]")
        for name in dict.fromkeys([BASE, f"{OURS} {row.format}", *row.timings]):
            if name in row.timings:
                cells = _cells(row, name, ceilings[row.threads])
            else:
                cells = ["refused" if name in row.refusals else "failed"]
            grid.add_row(f"  {name}", *cells)
        grid.add_section()
    return grid


def _title(row: Row) -> str:
    return f"{row.model} {row.format}, {row.threads} thread{'s' if row.threads > 1 else ''}"


def _cells(row: Row, name: str, top: Ceilings) -> list[str]:
    it, f32 = row.timings[name], row.timings.get(BASE)
    ours = None if name.startswith(OURS) else row.timings.get(f"{OURS} {row.format}")
    gops = row.flop / it.median / 1e9 if row.flop else None
    dots = top.dot_gops if row.format.startswith("int8") and name != BASE else None
    return [
        " ".join([_ms(it.median), f"({_ms(it.lowest)}..{_ms(it.highest)})"]),
        _ms(it.cpu_lowest),
        f"{ours.median / it.median:.2f}" if ours else "-",
        f"{ours.cpu_lowest / it.cpu_lowest:.2f}" if ours else "-",
        f"{it.median / f32.median:.2f}" if f32 else "-",
        f"{gops:.0f}" if gops else "-",
        f"{gops / dots:.0%}" if gops and dots else "-",
        f"{row.errors[name]:.1e}",
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds > 0.1 else f"{seconds * 1e3:.3g}"


def summary(rows: list[Row]) -> list[str]:
    """Return a line for each row: ours against the best peer, and which that was."""
    lines: list[str] = []
    for row in rows:
        clock = row.against_best(lambda t: t.median)
        cpu = row.against_best(lambda t: t.cpu_lowest)
        where = _title(row)
        if clock is None or cpu is None:
            why = "; ".join(f"{name} refused, {text}" for name, text in row.refusals.items())
            lines.append(f"{where}: {why or 'nothing to compare'}")
            continue
        best = min(row.peers(), key=lambda name: row.peers()[name].median)
        lines.append(f"{where}: {clock:.2f} of {best}'s time, {cpu:.2f} of the least CPU time")
    return lines


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed. A format that is refused is told, and is 0."""
    what = "Formats of fewer bits against the peers' own."
    options = parse(arguments, what, ("bert-base", "resnet50"))
    with Workshop(options.engines, options.threads) as shop:
        report = Report.begin(options.threads)
        rows = measure(shop, models(options.models), options)
        ceilings = report.end()
        console().print(table(rows, ceilings))
        for line in summary(rows):
            console().print(line, highlight=False, markup=False)
        report.add("quant", rows)
        return report.finish(options.json or results_file("-quant"), shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A model so small that the call itself counts: a 64-64-64-10 MLP, called from Python.

    python tests/bench/calls.py [--threads 1] [--against onnxruntime,openvino] [--json FILE]

Each engine is called in its plain way (arrays in, arrays out) and on buffers that were bound once.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass

from options import parse
from report import Report, console, note
from rich.table import Table
from turns import Remote, Timing, take_turns
from workshop import Workshop
from zoo_models import Model, models

OURS = "tapeout"
MLP = ("mlp",)


@dataclass(frozen=True)
class Row:
    """One way of calling, at one number of threads: seconds per call by engine."""

    way: str
    threads: int
    timings: dict[str, Timing]

    def ratio(self) -> float | None:
        """Return our median over the best peer's; None when one side is missing."""
        peers = [t.median for name, t in self.timings.items() if name != OURS]
        ours = self.timings.get(OURS)
        return ours.median / min(peers) if ours and peers else None


def measure(shop: Workshop, model: Model, rounds: int, seconds: float) -> list[Row]:
    """Measure plain and bound calls with one thread: there is no work for more."""
    rows: list[Row] = []
    for way in ("plain", "bound"):
        with note(f"{model.name}, {way} calls"), ExitStack() as stack:
            remotes: dict[str, Remote] = {}
            for name in shop.engines:
                remote = shop.loaded(name, model, 1, bound=way == "bound")
                if remote is not None:
                    remotes[name] = stack.enter_context(remote)
            rows.append(Row(way, 1, take_turns(remotes, rounds=rounds, seconds=seconds)))
    return rows


def table(rows: list[Row], engines: tuple[str, ...]) -> Table:
    """Lay the rows out: medians in microseconds with the spread over turns."""
    grid = Table("call", *(f"{name} µs" for name in engines), "ours/best", title="MLP 64-64-64-10")
    for row in rows:
        cells = [_cell(row.timings.get(name)) for name in engines]
        ratio = row.ratio()
        grid.add_row(row.way, *cells, f"{ratio:.2f}" if ratio else "-")
    return grid


def _cell(timing: Timing | None) -> str:
    if timing is None:
        return "failed"
    low, mid, high = (f"{s * 1e6:.1f}" for s in (timing.lowest, timing.median, timing.highest))
    return f"{mid} ({low}..{high})"


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed."""
    options = parse(arguments, "Calls of a tiny model from Python.")
    with Workshop(options.engines, (1,)) as shop:
        report = Report.begin(shop.threads)
        rows = measure(shop, models(MLP)[0], options.rounds, options.seconds)
        report.end()
        console().print(table(rows, options.engines))
        report.add("calls", rows)
        return report.finish(options.json, shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

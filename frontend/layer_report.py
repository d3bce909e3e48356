"""What each layer became and why: a table, or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tapeout.frontend.terminal import scaled, seconds_text
from tapeout.ir.errors import CompileError
from tapeout.passes.budget.options import Layered, Option
from tapeout.passes.budget.search import Search, Tried
from tapeout.passes.quantize.choices import Choice
from tapeout.passes.quantize.pays import Predictor, weight_bytes


@dataclass(frozen=True)
class LayerRow:
    """One layer: its format, what that costs, and why it is not a cheaper one.

    ``sqnr``: dB of its output, the layer alone quantised; None where it was not measured or is
    infinite. Times are the least seconds that the device's rates allow (modelled), in the format
    and in f32; ``limit`` is what they come from.
    """

    layer: str
    format: str
    sqnr: float | None
    bytes: int
    seconds: float
    limit: str
    f32_seconds: float
    why: str


@dataclass(frozen=True)
class LayerReport:
    """All layers, at the sizes ``at`` on what ``device`` names; with a budget, what it came to."""

    rows: Sequence[LayerRow]
    device: str
    at: Mapping[str, int]
    budget: str = ""
    drop: str = ""
    evaluations: int = 0

    def tree(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return asdict(self)


def of_choices(made: Iterable[Choice], predictor: Predictor) -> LayerReport:
    """The report on what a recipe gave."""
    rows: list[LayerRow] = []
    for each in made:
        layer, format = each.layer, each.format
        time, plain = predictor.of(layer, format), predictor.of(layer, None)
        why = f"not {each.asked}: {each.why}" if each.why else ""
        size, name = weight_bytes(layer, format), str(format or "f32")
        facts = (size, time.seconds, time.limit, plain.seconds, why)
        rows.append(LayerRow(layer.name, name, None, *facts))
    return LayerReport(rows, predictor.rates.source, predictor.at)


def of_search(search: Search, found: Tried, predictor: Predictor) -> LayerReport:
    """The report on an assignment under a budget."""
    rows = [_row(*pair) for pair in zip(search.layers, found.options, strict=True)]
    budget, count = search.budget, len(search.tried)
    drop = budget.show(found.drop)
    return LayerReport(rows, predictor.rates.source, predictor.at, budget.text, drop, count)


def _row(layered: Layered, chosen: Option) -> LayerRow:
    sqnr = chosen.sqnr if math.isfinite(chosen.sqnr) else None
    time, plain = chosen.prediction, layered.options[0].prediction
    return LayerRow(
        *(layered.layer.name, chosen.name, sqnr, chosen.bytes, time.seconds, time.limit),
        *(plain.seconds, _why(layered, chosen)),
    )


def _why(layered: Layered, chosen: Option) -> str:
    """Why not the cheapest; and where nothing is cheaper than f32, what is wrong with the rest."""
    cheapest = min(layered.options, key=lambda option: option.cost)
    if chosen is not cheapest:
        return f"budget: {cheapest.name} has {cheapest.sqnr:.1f} dB"
    if chosen.format is None and layered.barred:
        name, why = next(iter(layered.barred.items()))
        return f"not {name}: {why}"
    return ""


def show(report: LayerReport, out: Console, *, all_rows: bool = True) -> None:
    """Print the layers, or only those of which there is something to say."""
    rows = [row for row in report.rows if all_rows or row.why]
    if rows:
        out.print(_table(report, rows))
    quantised = [row for row in report.rows if row.format != "f32"]
    plain, now = (sum(times) for times in zip(*((r.f32_seconds, r.seconds) for r in report.rows)))
    out.print(
        f"layers   {len(quantised)} of {len(report.rows)} quantised, "
        f"{scaled(sum(r.bytes for r in report.rows), 'B')} of weights, "
        f"{seconds_text(now)} at least of {seconds_text(plain)} in f32 (modelled: {report.device})"
    )
    if report.budget:
        tried = f"{report.evaluations} assignments tried"
        out.print(f"budget   {report.budget}: {report.drop} measured; {tried}")


def write(report: LayerReport, path: Path) -> None:
    """Write the report as JSON; E0116 where that fails."""
    try:
        path.write_text(json.dumps(report.tree(), indent=1) + "\n")
    except OSError as error:
        facts = [("file", path), ("why", error.strerror)]
        fix = "name a file in a folder that exists"
        raise CompileError("E0116", "the report cannot be written", facts, fix) from error


def _table(report: LayerReport, rows: Sequence[LayerRow]) -> Table:
    sizes = " ".join(f"{name}={value}" for name, value in report.at.items())
    title = f"layers at {sizes}" if sizes else "layers"
    table = Table("layer", "format", title=title, title_justify="left")
    for head in ("SQNR dB", "bytes", "least time", "in f32"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("limit")
    table.add_column("why")
    for row in rows:
        sqnr = "" if row.sqnr is None else f"{row.sqnr:.1f}"
        times = (seconds_text(row.seconds), seconds_text(row.f32_seconds))
        figures = (sqnr, scaled(row.bytes, "B"), *times)
        table.add_row(row.layer, row.format, *figures, row.limit, row.why)
    return table

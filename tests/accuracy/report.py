"""The outcome of every model in every format: the table, and what the whole run comes to."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tasks import TASKS, Task

from tapeout.frontend import layer_report
from tapeout.frontend.layer_report import LayerReport

State = Literal["ok", "missed", "reported", "refused"]
STYLES: dict[State, str] = {"ok": "green", "missed": "red", "reported": "", "refused": "yellow"}


@dataclass(frozen=True)
class Row:
    """One model in one format.

    ``value`` is the metric, ``change`` its difference from fp32, ``limit`` how much of a change for
    the worse is allowed; the last two are in the unit of the model's task. ``reported`` has no
    limit; ``refused`` has the compiler's ``error`` and no figures. ``layers``: what became of
    them under a budget.
    """

    model: str
    format: str
    metric: str
    state: State = "reported"
    value: float | None = None
    change: float | None = None
    limit: float | None = None
    artifact_bytes: int | None = None
    error: str = ""
    layers: LayerReport | None = None


def verdict(loss: float, limit: float | None) -> State:
    """Judge what a format lost; a loss that is not a number is over every limit."""
    if limit is None:
        return "reported"
    return "ok" if loss <= limit else "missed"


def status(rows: Sequence[Row], *, strict: bool = False) -> int:
    """1 when a row missed its limit, or (strict) was refused although it has one."""
    refused = (row.state == "refused" and row.limit is not None for row in rows)
    missed = (row.state == "missed" for row in rows)
    return int(any(missed) or (strict and any(refused)))


def show(rows: Sequence[Row]) -> None:
    """Print the table, and each refusal once."""
    console = Console(width=max(Console().width, 110), highlight=False)
    console.print(_table(rows))
    for error in dict.fromkeys(row.error for row in rows if row.error):
        console.print(error, markup=False)
    for row in rows:
        if row.layers is not None:
            console.print(f"\n{row.model}, {row.format}")
            layer_report.show(row.layers, console)


def _table(rows: Sequence[Row]) -> Table:
    table = Table("model", "format", "metric", title="accuracy on real data")
    for heading in ("value", "against fp32", "allowed", "artifact bytes"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        state = Text(_code(row.error) or row.state, STYLES[row.state])
        table.add_row(row.model, row.format, row.metric, *_figures(row, TASKS[row.model]), state)
    return table


def _figures(row: Row, task: Task) -> tuple[str, str, str, str]:
    allowed = "" if row.limit is None else f"{row.limit * task.worse + 0.0:+g} {task.unit}"
    if row.value is None or row.change is None:
        return "-", "-", allowed, "-"
    value = f"{row.value:.{task.decimals}f}"
    change = f"{round(row.change, task.decimals) + 0.0:+.{task.decimals}f} {task.unit}"
    return value, change, allowed, f"{row.artifact_bytes:,}"


def _code(error: str) -> str:
    """Return ``refused E0404`` for an error that begins with ``error[E0404]:``."""
    return f"refused {error.partition('[')[2].partition(']')[0]}" if error else ""


@contextmanager
def note(text: str) -> Generator[None]:
    """Say on a terminal what is being done."""
    with Console(stderr=True).status(text):
        yield

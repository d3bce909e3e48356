"""The result of a run: what was measured, when, on which machine, under which ceilings."""

import datetime
import importlib.metadata
import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import Ceilings, best_of, busy_share, cpu_model, measure_ceilings
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PACKAGES = (
    *("tapeout", "onnxruntime", "openvino", "numpy", "torch", "transformers"),
    *("llama-cpp-python", "gguf"),
)

BUSY_SHARE = 0.05
"""Above this share of the CPUs, other processes are worth a warning."""


@dataclass
class Report:
    """Collects the parts of one run; ceilings are measured at its begin and at its end."""

    ceilings: dict[int, Ceilings]
    busy: list[float]
    parts: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    @staticmethod
    def begin(threads: tuple[int, ...]) -> "Report":
        """Measure the ceilings a first time."""
        with note("the machine's ceilings"):
            busy = busy_share()
            return Report(measure_ceilings(threads), [busy])

    def end(self) -> dict[int, Ceilings]:
        """Measure the ceilings again, print and return the better ones."""
        with note("the machine's ceilings"):
            self.busy.append(busy_share())
            again = measure_ceilings(tuple(self.ceilings))
        self.ceilings = {n: best_of(self.ceilings[n], again[n]) for n in again}
        for n, top in self.ceilings.items():
            speeds = f"{top.fma_gflops:.1f} GFLOP/s f32 FMA, {top.read_gb_s:.1f} GB/s read"
            if top.dot_gops is not None:
                speeds += f", {top.dot_gops:.1f} GOP/s of bytes ({top.dot_with})"
            console().print(f"ceilings with {n} threads: {speeds}")
        if max(self.busy) > BUSY_SHARE:
            share = f"{max(self.busy):.0%}"
            console().print(f"[yellow]warning[/]: other processes used {share} of the CPUs")
        return self.ceilings

    def add(self, part: str, rows: "Sequence[DataclassInstance]") -> None:
        """Keep the rows of one part."""
        self.parts[part] = [asdict(row) for row in rows]

    def finish(self, path: Path | None, failures: list[str]) -> int:
        """Write the results, tell what failed, and return the exit status."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._tree(failures), indent=1) + "\n")
        for failure in failures:
            console().print(f"[red]failed[/]: {escape(failure)}", highlight=False)
        return 1 if failures else 0

    def _tree(self, failures: list[str]) -> dict[str, Any]:
        return {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cpu": cpu_model(),
            "versions": {name: _version(name) for name in PACKAGES},
            "ceilings": [asdict(top) for top in self.ceilings.values()],
            "busy_share": self.busy,
            "failures": failures,
            **self.parts,
        }


def results_file(suffix: str = "") -> Path:
    """Return where results go when no file is named: ``results/DATE-CPU.json``."""
    machine = re.sub(r"[^a-z0-9]+", "-", cpu_model().lower()).strip("-")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Path(__file__).parent / "results" / f"{day}-{machine}{suffix}.json"


def _version(package: str) -> str | None:
    """Return the installed version; None when there is none, for peers are optional."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def console() -> Console:
    """Return a console that is wide enough for the tables, even into a pipe."""
    return Console(width=max(Console().width, 160))


@contextmanager
def note(text: str) -> Generator[None]:
    """Say on a terminal what is being done."""
    with Console(stderr=True).status(text):
        yield

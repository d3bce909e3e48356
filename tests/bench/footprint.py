"""Size and predictability: code bytes, compile time, and peak memory against weights + arena.

    python tests/bench/footprint.py [--models ...] [--threads 1] [--against ...] [--json FILE]

Peak memory is the highest resident size of a process that loads the model and runs it, less what
it held before the engine was imported and less one set of inputs and outputs. `rest` is what then
remains over weights and working memory: it should be a small constant.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from options import parse
from report import Report, console, note
from rich.table import Table
from workshop import Workshop
from zoo_models import Model, models

OURS = "tapeout"


@dataclass(frozen=True)
class Row:
    """One engine on one model; bytes, where the engine tells them, and seconds ahead of time."""

    model: str
    engine: str
    prepare_seconds: float
    code_bytes: int | None
    source_bytes: int | None
    weights_bytes: int
    working_bytes: int | None
    arena_over_bound: float | None
    """The arena over what no placement of its buffers goes below; None if placed while running."""
    peak_bytes: int

    def rest_bytes(self) -> int:
        """Return the peak over weights and working memory."""
        return self.peak_bytes - self.weights_bytes - (self.working_bytes or 0)


def measure(shop: Workshop, chosen: list[Model]) -> list[Row]:
    """Load and run every model once with every engine, each in a process of its own."""
    rows: list[Row] = []
    for model in chosen:
        for engine in shop.engines:
            with note(f"{model.name}, memory of {engine}"):
                row = _measure(shop, engine, model)
            if row is not None:
                rows.append(row)
    return rows


def _measure(shop: Workshop, engine: str, model: Model) -> Row | None:
    prepared = shop.prepared(engine, model)
    remote = shop.loaded(engine, model, shop.threads[0])
    if prepared is None or remote is None:
        return None
    with remote:
        held = remote.ask("memory")
    peak = held["peak_bytes"] - held["baseline_bytes"] - held["io_bytes"]
    code = source = arena = None
    weights = sum(file.stat().st_size for file in model.folder.glob("model.onnx*"))
    if engine == OURS:
        code, source, weights, arena = _sizes(str(prepared.path))
    sizes = (code, source, weights, held["working_bytes"], arena, peak)
    return Row(model.name, engine, prepared.seconds, *sizes)


def _sizes(artifact: str) -> tuple[int, int, int, float | None]:
    """Return the bytes of code (the largest form), of everything else, and of weights.

    Last comes the arena over its lower bound.
    """
    import zipfile

    from tapeout.runtime.manifest import NAME, WEIGHTS, Manifest

    with zipfile.ZipFile(artifact) as archive:
        manifest = Manifest.from_json(archive.read(NAME))
    files, code = manifest.files, {form.file for form in manifest.code}
    weights = files[WEIGHTS].bytes if WEIGHTS in files else 0
    other = sum(file.bytes for name, file in files.items() if name not in {*code, WEIGHTS})
    bound = manifest.arena_bound
    arena = float(manifest.arena_bytes) / float(bound) if bound else None
    return max(files[name].bytes for name in code), other, weights, arena


def table(rows: list[Row]) -> Table:
    """Lay the figures out, one a line, with how each was obtained; a column for each model."""
    models = list(dict.fromkeys(row.model for row in rows))
    grid = Table("figure", "engine", *models, "how obtained", title="footprint")
    for name, how, cell in FIGURES:
        for engine in dict.fromkeys(row.engine for row in rows):
            cells = {row.model: cell(row) for row in rows if row.engine == engine}
            if any(text is not None for text in cells.values()):
                texts = [cells.get(model) or "-" for model in models]
                grid.add_row(name, engine, *texts, how)
    return grid


def _compile_seconds(row: Row) -> str | None:
    """The peers read the ONNX file: they have no time ahead of time."""
    return f"{row.prepare_seconds:.1f}" if row.engine == OURS else None


def _scaled(size: int | None, unit: float) -> str | None:
    return None if size is None else f"{size / unit:.1f}"


def _ratio(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


FIGURES: tuple[tuple[str, str, Callable[[Row], str | None]], ...] = (
    ("compile s", "measured: clock", _compile_seconds),
    ("code kB", "counted: bytes of the .so", lambda r: _scaled(r.code_bytes, 1e3)),
    ("other kB", "counted: C sources, manifest", lambda r: _scaled(r.source_bytes, 1e3)),
    ("weights MB", "counted: bytes of the file", lambda r: _scaled(r.weights_bytes, 1e6)),
    ("working MB", "measured: the runtime's sum", lambda r: _scaled(r.working_bytes, 1e6)),
    ("arena / bound", "exact: the memory plan's", lambda r: _ratio(r.arena_over_bound)),
    ("peak MB", "measured: VmHWM", lambda r: _scaled(r.peak_bytes, 1e6)),
    ("rest MB", "peak - weights - working", lambda r: _scaled(r.rest_bytes(), 1e6)),
)
"""Each figure: its name and unit, how it was obtained, and its text, None where it has none."""


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed on a model."""
    options = parse(arguments, "Code size, compile time and peak memory.")
    with Workshop(options.engines, options.threads) as shop:
        report = Report.begin(shop.threads)
        rows = measure(shop, models(options.models))
        report.end()
        console().print(table(rows))
        report.add("footprint", rows)
        return report.finish(options.json, shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

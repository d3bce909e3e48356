"""What every format costs in accuracy, on real data: what `make accuracy` runs.

    python tests/accuracy/accuracy.py [--formats fp32,int8,sparsify=2:4,...]
                                      [--models digits,minilm,charlm] [--strict] [--json FILE]

The status is 1 when a format that compiled is beyond its limit; with ``--strict``, also when the
compiler refused a format that has a limit.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from formats import BUDGETS, FORMATS, LIMITS, Format
from report import Row, note, show, status, verdict
from tasks import TASKS, Arrays, Model, Task, made

import tapeout
from tapeout.frontend.layer_report import LayerReport
from tapeout.ir.errors import CompileError


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status (2: a name that is not a model)."""
    options = _parse(arguments)
    rows = list(measure(options.models, options.formats))
    show(rows)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return status(rows, strict=options.strict)


def measure(models: Sequence[str], formats: Sequence[str]) -> Iterator[Row]:
    """Compile every model to every format and score it."""
    for name in models:
        with note(f"making {name}"):
            model = made(name)
        own = [BUDGETS[name]] if name in BUDGETS and formats == FORMATS else []
        for format in (*formats, *own):
            with note(f"{name} in {format}"), tempfile.TemporaryDirectory() as folder:
                yield judged(TASKS[name], model, Format.parse(format), Path(folder))


def judged(task: Task, model: Model, format: Format, folder: Path) -> Row:
    """Compile one model to one format in ``folder``, score it, and hold it to its limit."""
    limit = LIMITS.get((task.model, format.name))
    row = Row(task.model, format.name, task.metric, limit=limit)
    evaluate = None
    if format.max_drop is not None:
        assert task.samples is not None, f"{task.model} has no samples to keep a budget by"
        evaluate = task.samples(model)[: task.seen]
        model = replace(model, seen=task.seen)
    told: list[LayerReport] = []
    try:
        artifact = compiled(model, format, folder / "model.tapeout", evaluate, told.append)
    except CompileError as error:
        return replace(row, state="refused", error=str(error))
    with tapeout.load(artifact) as program:
        value = task.score(model, program.run)
    change = task.change(value, task.reference(model))
    return replace(
        row,
        state=verdict(change * task.worse, limit),
        value=value,
        change=change,
        artifact_bytes=artifact.stat().st_size,
        layers=told[0] if told and format.max_drop is not None else None,
    )


def compiled(
    model: Model,
    format: Format,
    output: Path,
    evaluate: Sequence[Arrays] | None,
    tell: Callable[[LayerReport], None],
) -> Path:
    """Compile for this machine; raises CompileError for what the compiler refuses.

    Whether the machine is fast in a format is not asked: ``always``. A budget asks.
    """
    quantize = format.quantize
    if quantize is not None and format.max_drop is None:
        quantize = f"{quantize},always"
    return tapeout.compile(
        model.path,
        target="cpu",
        dims=dict(model.dims),
        quantize=quantize,
        calibrate=model.calibration if format.quantize or format.sparsify else None,
        max_drop=format.max_drop,
        evaluate=evaluate,
        sparsify=format.sparsify,
        output=output,
        tell=tell,
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="accuracy.py", description=__doc__)
    parser.add_argument("--formats", type=_names, default=FORMATS)
    parser.add_argument("--models", type=_names, default=tuple(TASKS))
    parser.add_argument("--strict", action="store_true", help="a refusal of a limited format is 1")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args(arguments)
    if unknown := set(options.models) - set(TASKS):
        parser.error(f"no model {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")
    return options


def _names(text: str) -> tuple[str, ...]:
    """Split at commas; one in front of an option belongs to its format."""
    return tuple(filter(None, re.split(r",(?!saliency|magnitude)", text)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

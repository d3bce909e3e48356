"""Everything that is measured, in one run on one machine: what `make bench` runs.

    python tests/bench/run.py [--models ...] [--threads 1,2] [--against onnxruntime,openvino]
                              [--rounds N] [--seconds S] [--json FILE]

Without ``--json`` the results go to ``tests/bench/results/DATE-CPU.json``.
"""

import datetime
import re
import sys
from pathlib import Path

import calls
import cold_start
import footprint
import latency
from machine import cpu_model
from options import parse
from report import Report, console
from workshop import Workshop
from zoo_models import models


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when an engine failed on a model."""
    options = parse(arguments, "Latency, tiny calls, cold start and footprint, in one run.")
    with Workshop(options.engines, options.threads) as shop:
        report = Report.begin(options.threads)
        chosen = models(options.models)
        by_model = latency.measure(shop, chosen, options.rounds, options.seconds)
        by_call = calls.measure(shop, models(calls.MLP)[0], options.rounds, options.seconds)
        starts = cold_start.measure(shop, models(cold_start.MINILM)[0], options.rounds)
        sizes = footprint.measure(shop, chosen)
        ceilings = report.end()
        console().print(
            latency.table(by_model, options.engines, ceilings),
            calls.table(by_call, options.engines),
            cold_start.table(starts),
            footprint.table(sizes),
        )
        parts = {"latency": by_model, "calls": by_call, "cold_start": starts, "footprint": sizes}
        for part, rows in parts.items():
            report.add(part, rows)
        return report.finish(options.json or _results_file(), shop.failures)


def _results_file() -> Path:
    machine = re.sub(r"[^a-z0-9]+", "-", cpu_model().lower()).strip("-")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Path(__file__).parent / "results" / f"{day}-{machine}.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Everything that is measured, in one run on one machine: what `make bench` runs.

    python tests/bench/run.py [--models ...] [--threads 1,2] [--against onnxruntime,openvino]
                              [--rounds N] [--seconds S] [--json FILE]

Without ``--json`` the results go to ``tests/bench/results/DATE-CPU.json``.
"""

import sys

import calls
import cold_start
import footprint
import latency
from options import parse
from report import Report, console, results_file
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
        return report.finish(options.json or results_file(), shop.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

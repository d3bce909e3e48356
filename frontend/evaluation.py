"""What a module gives on evaluation data, compiled and run here, as a metric keeps it."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapeout.frontend.calibration import LABELS, CalibrationSet
from tapeout.frontend.metrics import Metric
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.runtime.program import load
from tapeout.targets.choice import Choice
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.device import Device

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Evaluation:
    """Runs modules on ``data`` and keeps of their first outputs what ``metric`` needs.

    ``device`` is one of this machine; that of the target, where this machine has it. Results of a
    device differ from another's by rounding of floats.
    """

    data: CalibrationSet
    metric: Metric
    device: Device

    def run(self, module: Module) -> list[Array]:
        """One array for each sample of a module that was lowered to kernels.

        Errors: E0115 for labels that are missing or do not fit, those of a sample that does not.
        """
        built = cpu.compile_module(module, [self.device])
        first = next(iter(module.entries())).outputs.data[0]
        with tempfile.TemporaryDirectory(prefix="tapeout-") as folder:
            path = Path(folder, "model.tapeout")
            artifact.write(path, built.manifest, built.files, "file")
            with load(path) as program:
                return [
                    self._kept(program.run(inputs)[first], inputs, labels, i)
                    for i, (inputs, labels) in enumerate(self.data.labelled())
                ]

    def _kept(
        self, output: Array, inputs: dict[str, Array], labels: Array | None, sample: int
    ) -> Array:
        if self.metric.labels:
            labels = _fitting(
                labels if labels is not None else _next(inputs, output), output, sample
            )
        return self.metric.keep(output, labels)


def measuring_device(chosen: Choice) -> Device:
    """The best of the devices if this machine runs it, else this machine's own CPU."""
    best = cpu.best_first(chosen.devices)[0] if isinstance(chosen, cpu.CpuChoice) else None
    if best is not None and best.machine == machine() and features() >= set(best.features):
        return best
    return cpu.built_on(machine(), cpu.native(machine(), features()))


def _next(inputs: dict[str, Array], logits: Array) -> Array | None:
    """Of a language model that takes token ids alone: at each place, the token after it."""
    ids = [x for x in inputs.values() if x.dtype.kind in "iu" and x.shape == logits.shape[:-1]]
    if len(ids) != 1 or not ids[0].ndim:
        return None
    following = np.full(ids[0].shape, -1, np.int64)
    following[..., :-1] = ids[0][..., 1:]
    return following


def _fitting(labels: Array | None, logits: Array, sample: int) -> Array:
    """Labels as integers, one for each row of the logits; E0115 otherwise."""
    want, classes = logits.shape[:-1], logits.shape[-1] if logits.ndim else 0
    facts: list[tuple[str, object]] = [
        ("sample", sample),
        ("output", list(logits.shape)),
        ("labels", "none" if labels is None else f"{labels.dtype}{list(labels.shape)}"),
    ]
    if labels is None:
        fix = f"add an array '{LABELS}', an integer for each row of the first output"
        raise CompileError("E0115", "the evaluation data has no labels", facts, fix)
    if labels.dtype.kind not in "iu" or not logits.ndim or labels.size != math.prod(want):
        fix = f"give one integer for each row of the first output: {list(want)}"
        raise CompileError("E0115", "labels do not fit the model's first output", facts, fix)
    if labels.size and int(labels.max()) >= classes:
        facts.append(("largest", int(labels.max())))
        fix = f"labels are classes from 0 to {classes - 1}; those below 0 count for perplexity only"
        raise CompileError("E0115", "a label is no class of the first output", facts, fix)
    return labels.astype(np.int64)

"""``bisect``: the compiled model and the reference side by side, and where they part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapeout.frontend import driver
from tapeout.frontend.agreement import DEFAULT, Difference, Tolerance, worst
from tapeout.frontend.arrays import drawn
from tapeout.frontend.bisect_kernels import KernelFindings, KernelRow, bisect_kernels, run_compiled
from tapeout.frontend.bisect_passes import PassFindings, PassRow, bisect_passes, compared
from tapeout.frontend.bisect_stage import Stage, stage_of
from tapeout.frontend.calibration import Source, calibration_set
from tapeout.frontend.quantizing import Quantizing, quantizing
from tapeout.frontend.samples import check_sample
from tapeout.frontend.side_by_side import main_entry, rounding_step
from tapeout.frontend.sizes import choose
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.types import Spec, specs
from tapeout.passes.pipeline import passes
from tapeout.passes.sparsify.encode_products import EncodeProducts
from tapeout.targets.cpu.target import CpuChoice, best_first
from tapeout.targets.host.build import compiler

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

STAGES: Mapping[Stage | None, str] = {
    "tile": "its tile program, made by passes/tile",
    "emit": "its code: the tile program, made by passes/tile, is right",
    None: "passes/tile or the target, not told apart for this one",
}


@dataclass(frozen=True)
class Wish:
    """What to compare on. ``inputs`` by name; where there are none, the first sample of
    ``calibrate``; without that, or with sizes ``at``, inputs that are made up."""

    inputs: Arrays | None = None
    at: Mapping[str, int] | None = None
    quantize: str | None = None
    calibrate: Source | None = None
    sparsify: str | None = None
    tolerance: Tolerance = DEFAULT


@dataclass(frozen=True)
class Bisection:
    """What :func:`bisect` found.

    ``outputs``: the compiled program's against those of the model as it was imported. ``plain``:
    those of the program as users get it against those of the one whose kernels were watched,
    empty where a kernel parts and there is no need to look.
    """

    device: str
    source: str
    """Where the inputs are from."""
    passes: PassFindings
    kernels: KernelFindings
    stage: Stage | None
    outputs: Mapping[str, Difference]
    plain: Mapping[str, Difference]

    @property
    def errors(self) -> Sequence[CompileError]:
        """What parts, as coded errors, first things first; empty where nothing does."""
        found = [_pass_parts(row) for row in self.passes.rows if row.parts]
        if self.kernels.first is not None:
            found.append(_kernel_parts(self.kernels.first, self.stage, self.device))
        if any(each.parts for each in self.plain.values()):
            found.append(_plan_parts(*worst(self.plain)))
        return found

    def tree(self) -> dict[str, Any]:
        """The findings as JSON holds them."""
        rows = self.passes.rows
        return {
            "device": self.device,
            "inputs": self.source,
            "passes": [_tree(row) | {"parts": row.parts} for row in rows],
            "layers": [_tree(row) for row in self.passes.layers],
            "kernels": [_tree(row) for row in self.kernels.rows],
            "outputs": {name: each.tree() for name, each in self.outputs.items()},
            "findings": [
                {"code": e.code, "what": e.what} | {k: str(v) for k, v in e.facts}
                for e in self.errors
            ],
        }


def bisect(
    model: Path, target: str, dims: driver.Dims | None, wish: Wish, note: driver.Note
) -> Bisection:
    """Evaluate the model after each pass, compile it, and judge every kernel of the program.

    Raises CompileError for whatever stands in the way; what parts is in the result.
    """
    device = best_first(driver.targeted(target))[0]
    compiler(device)  # a missing one is told before the work, not after it
    module = driver.import_any(model, dims, note, decoding=driver.Decoding("inputs"))
    said = Quantizing(wish.quantize, wish.calibrate, sparsify=wish.sparsify)
    asked = quantizing(module, CpuChoice([device]), said)
    lossy = [each for each in asked if not isinstance(each, EncodeProducts)]
    source, inputs = _inputs(module, wish)
    found = bisect_passes(module, passes(*asked), lossy, inputs, wish.tolerance, note)
    kernels = bisect_kernels(module, device, inputs, wish.tolerance, note)
    have, plain = kernels.outputs, dict[str, Difference]()
    tolerance = replace(wish.tolerance, step=rounding_step(module.ir.walk()))
    if kernels.first is None:
        have = run_compiled(module, device, inputs, note)
        plain = compared(have, kernels.outputs, wish.tolerance)
    stage = None if kernels.suspect is None else stage_of(kernels.suspect, module, device)
    outputs = compared(have, found.before, tolerance)
    return Bisection(device.name, source, found, kernels, stage, outputs, plain)


def _inputs(module: Module, wish: Wish) -> tuple[str, Arrays]:
    """Where the inputs are from, and the inputs.

    Errors: E0103 for sizes, and those of a sample that does not fit.
    """
    entry = main_entry(module)
    wanted = dict(zip(entry.inputs.data, specs(entry.body.block.args), strict=True))
    if wish.inputs:
        return "given", check_sample("--input", wish.inputs, wanted)
    if wish.calibrate is not None and not wish.at:
        return "first sample of --calibrate", next(iter(calibration_set(wish.calibrate, module)))
    at = _sizes(wanted, wish.at or {})
    random = np.random.default_rng(0)
    made = {
        name: drawn([d.evaluate(at) for d in want.dims], want.dtype.name, random)
        for name, want in wanted.items()
    }
    sizes = " ".join(f"{name}={value}" for name, value in at.items())
    return f"made up at {sizes}" if sizes else "made up", made


def _sizes(wanted: Mapping[str, Spec], given: Mapping[str, int]) -> dict[str, int]:
    symbols = sorted({s for w in wanted.values() for d in w.dims for s in d.symbols()}, key=str)
    first = {str(w.dims[0]) for w in wanted.values() if w.dims}
    own = [(s.name, s.lo, s.hi) for s in symbols if not isinstance(s.hi, Expr)]
    return choose(own, first, given)


def _tree(row: Any) -> Any:
    """The fields of a row, differences as their own trees."""
    if isinstance(row, Difference):
        return row.tree()
    if not is_dataclass(row):
        return row
    return {field.name: _tree(getattr(row, field.name)) for field in fields(row)}


def _pass_parts(row: PassRow) -> CompileError:
    assert row.difference is not None, "a pass that parts was judged"
    assert row.place is not None, "a pass that parts does so somewhere"
    weights = [("weights", ", ".join(row.place.weights))] if row.place.weights else []
    return CompileError(
        "E0801",
        f"the pass {row.name} changes what the model computes",
        [
            ("output", row.output),
            *_facts(row.difference),
            ("first at", row.place.name),
            *weights,
            ("there", f"{row.place.difference.where}"),
        ],
        "this is a fault of tapeout: report it with the model; --dump of `tapeout compile` "
        "writes the module before and after the pass",
    )


def _kernel_parts(row: KernelRow, stage: Stage | None, device: str) -> CompileError:
    weights = [("weights" if row.has_weights else "behind", ", ".join(row.weights))]
    return CompileError(
        "E0802",
        f"the kernel {row.kernel} computes something else than its operators",
        [
            ("call", f"{row.call}, of cpu:{device}"),
            ("operators", ", ".join(row.operators)),
            *(weights if row.weights else []),
            *([("nodes", ", ".join(row.nodes))] if row.nodes else []),
            *_facts(row.difference),
            ("wrong in", STAGES[stage]),
        ],
        "this is a fault of tapeout: report it with the model; "
        "`tapeout compile --format dir` writes the kernel's source",
    )


def _plan_parts(output: str, found: Difference) -> CompileError:
    return CompileError(
        "E0803",
        "every kernel is right, but the program is not: they read or write the wrong memory",
        [("output", output), *_facts(found), ("wrong in", "passes/memory or the target's tables")],
        "this is a fault of tapeout: report it with the model",
    )


def _facts(found: Difference) -> list[tuple[str, object]]:
    text = f"{found.error:.3g}, {found.relative:.1e} of the largest; {found.allowed:.3g} is allowed"
    return [("error", text), ("element", found.where)]

"""From ``--quantize``, ``--sparsify`` and what goes with them to passes, and to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tapeout.frontend.calibration import CalibrationSet, Source, calibration_set
from tapeout.frontend.evaluation import Evaluation, measuring_device
from tapeout.frontend.layer_report import LayerReport, of_choices, of_search
from tapeout.frontend.metrics import check_data, parse_max_drop
from tapeout.frontend.module_sizes import sizes_of
from tapeout.ir.errors import CompileError, together
from tapeout.ir.module import Module
from tapeout.passes.budget.options import options_of
from tapeout.passes.budget.search import Search, recipe_of
from tapeout.passes.manager import Pass, run
from tapeout.passes.pipeline import PIPELINE, passes
from tapeout.passes.quantize.formats import USUAL, LayerFormat, parse_format
from tapeout.passes.quantize.pays import Predictor
from tapeout.passes.quantize.quantize_layers import QuantizeLayers, refusal
from tapeout.passes.quantize.recipe import Recipe, parse_quantize
from tapeout.passes.sparsify.patterns import parse_sparsify
from tapeout.passes.sparsify.sparsify_layers import SparsifyLayers
from tapeout.targets.choice import Choice

Note = Callable[[str], None]
Tell = Callable[[LayerReport], None]

AUTO, BESIDE = "auto", "+"


@dataclass(frozen=True)
class Quantizing:
    """What a user says: a format, a file, candidates (``int8+w4g32``, ``auto``), and data.

    ``sparsify``: a sparsity, or a file. ``at``: the sizes at which formats are weighed. ``tell``
    gets the report.
    """

    quantize: str | None = None
    calibrate: Source | None = None
    max_drop: str | None = None
    evaluate: Source | None = None
    sparsify: str | None = None
    at: Mapping[str, int] | None = None
    tell: Tell = lambda _: None


def quantizing(
    module: Module, chosen: Choice, wish: Quantizing, note: Note = lambda _: None
) -> tuple[Pass, ...]:
    """The passes that a user asks for, after what was said has been checked.

    The last leaves zeros out where all devices gain by it. With a budget the module is compiled and
    measured on the way; it stays as it is. Formats are weighed on the best of the devices.
    """
    _check(wish)
    samples = None if wish.calibrate is None else calibration_set(wish.calibrate, module)
    pruning = _pruning(wish, samples)
    if wish.quantize is None:
        return (*pruning, *chosen.passes)
    entry = next(iter(module.entries()))
    predictor = Predictor(chosen.rates, sizes_of(module, entry, wish.at or {}))
    if wish.max_drop is not None:
        recipe, report = _within(module, chosen, wish, samples, predictor, note)
        wish.tell(report)
        return (*pruning, QuantizeLayers(recipe, samples, predictor), *chosen.passes)
    parse_quantize(wish.quantize)
    made = QuantizeLayers(
        *(wish.quantize, samples, predictor),
        tell=lambda choices: wish.tell(of_choices(choices, predictor)),
    )
    return (*pruning, made, *chosen.passes)


def _pruning(wish: Quantizing, samples: CalibrationSet | None) -> tuple[Pass, ...]:
    if wish.sparsify is None:
        return ()
    parse_sparsify(wish.sparsify)
    return (SparsifyLayers(wish.sparsify, samples),)


def _check(wish: Quantizing) -> None:
    """E0101 for options that need each other, or exclude each other."""
    several = wish.quantize is not None and (wish.quantize == AUTO or BESIDE in wish.quantize)
    is_file = wish.quantize is not None and wish.quantize.strip().endswith(".toml")
    for wrong, what, fix in (
        (
            wish.calibrate is not None
            and wish.quantize is None
            and wish.sparsify is None
            and wish.max_drop is None,
            "--calibrate has no use without --quantize or --sparsify",
            "name a format, --quantize int8, or leave --calibrate out",
        ),
        (
            wish.max_drop is not None and wish.quantize is None,
            "--max-drop has no use without --quantize",
            "say which formats layers may have: --quantize auto, or --quantize int8+w4g32",
        ),
        (
            several and not is_file and wish.max_drop is None,
            f"'{wish.quantize}' leaves a choice, and nothing to choose by",
            "add --max-drop accuracy=0.5 and --evaluate DATA, or name one format",
        ),
        (
            is_file and wish.max_drop is not None,
            "a file of formats says what each layer gets, and --max-drop has nothing to choose",
            "name candidates in place of the file: --quantize auto",
        ),
        (
            (wish.max_drop is None) != (wish.evaluate is None),
            "--max-drop and --evaluate go together",
            "give data that calibration has not seen: --evaluate held-out.npz",
        ),
    ):
        if wrong:
            raise CompileError("E0101", what, (), fix)


def _within(
    module: Module,
    chosen: Choice,
    wish: Quantizing,
    samples: CalibrationSet | None,
    predictor: Predictor,
    note: Note,
) -> tuple[Recipe, LayerReport]:
    """The cheapest formats that keep the budget, and the report."""
    assert wish.max_drop is not None, "checked"
    assert wish.evaluate is not None, "checked"
    assert wish.quantize is not None, "checked"
    metric, budget = parse_max_drop(wish.max_drop)
    candidates = _candidates(wish.quantize, has_samples=samples is not None)
    data = calibration_set(wish.evaluate, module, name="evaluation data")
    evaluation = Evaluation(data, metric, measuring_device(chosen))
    simple = module.copy()
    run(simple, PIPELINE["simplify"])
    note("running the model in f32")
    plain = evaluation.run(_lowered(simple))
    check_data(metric, budget, plain)
    run(simple, _pruning(wish, samples))

    def drop_of(recipe: Recipe) -> float:
        note(f"measuring formats: {len(search.tried) + 1}")
        lowered = _lowered(simple, QuantizeLayers(recipe, samples, predictor))
        return metric.drop(plain, evaluation.run(lowered))

    note("measuring every layer in every format")
    layered = options_of(simple, candidates, samples if samples is not None else data, predictor)
    search = Search(layered, budget, drop_of)
    found = search.run()
    return recipe_of(layered, found.options), of_search(search, found, predictor)


def _lowered(simple: Module, *requested: Pass) -> Module:
    """A copy of a simplified module after all further passes."""
    made, done = simple.copy(), len(PIPELINE["simplify"])
    run(made, passes(*requested)[done:])
    return made


def _candidates(text: str, *, has_samples: bool) -> list[LayerFormat]:
    """The formats that ``--quantize`` names; ``auto``: all usual ones that are lowered."""
    names = USUAL if text == AUTO else [part.strip() for part in text.split(BESIDE)]
    formats = [f for f in (parse_format(name) for name in names) if f is not None]
    refused = {str(f): refusal(f, has_samples=has_samples) for f in formats}
    errors = [error for error in refused.values() if error is not None]
    if errors and text != AUTO:
        raise together(errors, "the model cannot be quantised like this")
    return [f for f in formats if refused[str(f)] is None]

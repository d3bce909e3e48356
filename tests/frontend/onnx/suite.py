"""ONNX's own backend cases through the backend: passed, failed and opted out, by group.

    python tests/frontend/onnx/suite.py [--engine evaluator|any-sizes|compiled] [--only REGEX]
                                        [--kind node,simple,...] [--group REGEX] [--jobs N]
                                        [--list failed,optout,passed] [--reasons]

``evaluator`` runs the imported module in numpy and judges the importer alone; ``any-sizes`` does
so with a symbol for every size of the inputs above 1 (a 1 is for repeating), which not every case
can have; ``compiled`` runs the compiled program. ``--group quantisation`` stands for all cases of
quantised operators and of element types of 2 to 8 bits, whatever their operator.
"""

import argparse
import multiprocessing
import re
import sys
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt, Runner

from tapeout.frontend.onnx.backend import Program, TapeoutBackend
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate

QUANTISATION = r"quant|qlinear|integer|int[248](?!\d)|float[48]|e8m0|_e[245]m"
"""Names of the cases of ``--group quantisation``, in any case of letters."""
KINDS = "node,simple,pytorch-converted,pytorch-operator,real"
Data = Sequence[tuple[Sequence[Any], Sequence[Any]]]


class Outcome(NamedTuple):
    """How one case ended: ``passed``, ``failed`` or ``optout``, with a reason."""

    name: str
    group: str
    state: str
    reason: str


def evaluator(model: onnx.ModelProto) -> Program:
    """The imported module under the reference evaluator."""
    module = import_model(load_model(model))
    module.ir.verify()

    def program(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return evaluate(module, inputs)

    return program


class EvaluatorBackend(TapeoutBackend):
    """The backend with the reference evaluator in place of compiled code."""

    engine = staticmethod(evaluator)


def evaluator_with_any_sizes(model: onnx.ModelProto) -> Program:
    """As :func:`evaluator`, every size of every input a symbol of its own."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for info in made.graph.input:
        dims = info.type.tensor_type.shape.dim
        # A vector of integers may hold sizes or axes, whose number is a rank.
        vector = len(dims) == 1 and info.type.tensor_type.elem_type == onnx.TensorProto.INT64
        for i, dim in enumerate(dims):
            if dim.dim_value > 1 and not vector:
                dim.dim_param = f"{info.name}_{i}"
    return evaluator(made)


class AnySizesBackend(TapeoutBackend):
    """The evaluator over models whose sizes are all symbols."""

    engine = staticmethod(evaluator_with_any_sizes)


BACKENDS = {
    "evaluator": EvaluatorBackend,
    "any-sizes": AnySizesBackend,
    "compiled": TapeoutBackend,
}
CASES: list[TestCase] = []


def group(case: TestCase) -> str:
    """The operator of a node case; the kind of any other."""
    if case.kind != "node":
        return case.kind
    name = case.name.removeprefix("test_")
    if name.endswith("_expanded") or "_expanded_" in name:
        return "expanded"
    assert case.model is not None, "node cases hold their model"
    ops = [n.op_type for n in case.model.graph.node]
    return ops[-1] if ops else "none"


def load(case: TestCase) -> tuple[onnx.ModelProto, Data]:
    """The model and data of a case, in memory or in the package's data folder."""
    if case.model is not None:
        sets: Any = case.data_sets
        return case.model, [(_plain(inputs), _plain(outputs)) for inputs, outputs in sets]
    if case.model_dir is None:
        return _light(case)
    return _model(Path(case.model_dir) / "model.onnx"), list(_stored(case.model_dir))


def _plain(values: Sequence[Any]) -> list[Any]:
    """Some cases hold their tensors encoded."""
    is_proto = onnx.TensorProto
    return [numpy_helper.to_array(v) if isinstance(v, is_proto) else v for v in values]


def _light(case: TestCase) -> tuple[onnx.ModelProto, Data]:
    """A model of the ``light`` folder with its stored outputs, inputs as in ONNX's runner."""
    assert case.url is not None, "light models have an address inside the package"
    path = Path(onnx.__file__).parent.parent / case.url
    model = _model(path)
    held = {tensor.name for tensor in model.graph.initializer}
    infos = [info for info in model.graph.input if info.name not in held]
    inputs = [Runner.generate_dummy_data(i, seed=0, name=case.model_name) for i in infos]
    stored = [path.with_name(f"{path.stem}_output_{i}.pb") for i in range(len(model.graph.output))]
    return model, [(inputs, [_tensor(p) for p in stored])]


def _model(path: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(path.read_bytes())


def _tensor(path: Path) -> Any:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _stored(folder: str) -> Iterator[tuple[list[Any], list[Any]]]:
    for data in sorted(Path(folder).glob("test_data_set_*")):

        def read(prefix: str, data: Path = data) -> list[Any]:
            paths = sorted(data.glob(f"{prefix}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            return [_tensor(p) for p in paths]

        yield read("input"), read("output")


def run(chosen: tuple[str, int]) -> Outcome:
    """Run one case, given by engine and place in ``CASES``."""
    engine, index = chosen
    case = CASES[index]
    name = group(case)
    try:
        model, data = load(case)
        prepared = BACKENDS[engine].prepare(model, "CPU")
        for inputs, outputs in data:
            results = prepared.run(inputs)
            Runner.assert_similar_outputs(outputs, results, case.rtol, case.atol)
    except BackendIsNotSupposedToImplementIt as reason:
        return Outcome(case.name, name, "optout", str(reason))
    except CompileError as error:
        return Outcome(case.name, name, "failed", _short(error))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        text = " ".join(str(error).split())[:160]
        return Outcome(case.name, name, "failed", f"{type(error).__name__} at {place}: {text}")
    return Outcome(case.name, name, "passed", "")


def _short(error: CompileError) -> str:
    return " | ".join(line.strip() for line in str(error).splitlines()[:3])[:240]


def main(arguments: Sequence[str]) -> int:
    """Run the suite and print the table; the status is 1 when a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(BACKENDS), default="evaluator")
    parser.add_argument("--only", default="")
    parser.add_argument("--group", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kind", default=KINDS)
    parser.add_argument("--list", default="failed")
    parser.add_argument("--reasons", action="store_true")
    options = parser.parse_args(arguments)
    outcomes = outcomes_of(options)
    report(outcomes, options)
    return int(any(o.state == "failed" for o in outcomes))


def outcomes_of(options: argparse.Namespace) -> list[Outcome]:
    """Run all chosen cases in worker processes that share the loaded cases."""
    warnings.simplefilter("ignore")
    for kind in options.kind.split(","):
        CASES.extend(load_model_tests(kind=kind))
    chosen = [(options.engine, i) for i, case in enumerate(CASES) if _is_chosen(case, options)]
    if options.jobs == 1:
        return [run(c) for c in chosen]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        return pool.map(run, chosen, chunksize=8)


def _is_chosen(case: TestCase, options: argparse.Namespace) -> bool:
    if not re.search(options.only, case.name):
        return False
    if options.group == "quantisation":
        return re.search(QUANTISATION, case.name, re.IGNORECASE) is not None
    return re.search(options.group, group(case)) is not None


def report(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    """Print the counts of every group, then the cases of the listed states with reasons."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        table[outcome.group][outcome.state] += 1
    for name in sorted(table):
        row = table[name]
        if options.reasons and not row["failed"]:
            continue
        print(f"{name:32} {row['passed']:5} passed {row['failed']:4} failed {row['optout']:4} out")
    listed = [o for o in outcomes if o.state in options.list.split(",")]
    if options.reasons:
        for reason, count in Counter(o.reason[:110] for o in listed).most_common():
            print(f"{count:5}  {reason}")
    else:
        for outcome in listed:
            print(f"{outcome.state} {outcome.name}: {outcome.reason}")
    total = Counter(o.state for o in outcomes)
    print(
        f"{len(outcomes)} cases: {total['passed']} passed, {total['failed']} failed, "
        f"{total['optout']} opted out"
    )


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main(sys.argv[1:]))

"""Modules whose kernels run as the code that is shipped: compiled for sm_80, interpreted as PTX."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import StringAttr

from tapeout.ir.evaluator import Evaluator
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import CallOp
from tapeout.ir.tile.ops import buffer_of
from tapeout.ir.types import spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.blocks.strategies import lower_kernel
from tapeout.passes.tile.kernel_io import Lowered, decided
from tapeout.passes.tile.strategies import constant_operands
from tapeout.targets.gpu.build import Object, build, jobs_of, source_of
from tapeout.targets.gpu.emit.kernel import KernelText, emit_kernel
from tapeout.targets.gpu.ptx import Launch

Array = np.ndarray[Any, Any]
SMALL = BlockMachine(elements=64, row=256, tile_m=16, tile_n=32, tile_k=16)
"""Tiles for small operands, of which one is then cut and another is not."""


def _samples() -> Any:
    """The samples of every operator, which the tests of the IR keep."""
    path = Path(__file__).parents[2] / "ir" / "conftest.py"
    found = importlib.util.spec_from_file_location("samples_of_the_ir", path)
    assert found is not None, "a path is enough to load a file"
    assert found.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(found)
    # Dataclasses look their module up by name.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


SAMPLES: Sequence[Any] = _samples().SAMPLES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run per sample for tests that take ``number``."""
    if "number" in metafunc.fixturenames:
        ids = [f"{i}-{s}" for i, s in enumerate(SAMPLES)]
        metafunc.parametrize("number", range(len(SAMPLES)), ids=ids)


class Kernels:
    """The kernels of modules, lowered, printed, and compiled together."""

    def __init__(self, modules: Sequence[Module], machine: BlockMachine) -> None:
        """Lower every kernel and compile all of them at once."""
        self.lowered: list[dict[str, Lowered]] = []
        self.texts: dict[str, KernelText] = {}
        for i, module in enumerate(modules):
            constants, table = constant_operands(module), dict[str, Lowered]()
            for name, kernel in module.kernels().items():
                low = table[name] = lower_kernel(kernel, machine, constants[name])
                for program in (low.count, low.program):
                    if program is not None:
                        program.properties["sym_name"] = StringAttr(f"m{i}_{program.sym_name.data}")
                        text = emit_kernel(program)
                        self.texts[text.name] = text
            self.lowered.append(table)
        texts = list(self.texts.values())
        made = build(source_of(texts), jobs_of(texts, [80]), 2)
        self.objects: Mapping[str, Object] = {each.job.part: each for each in made}
        self.launches: dict[str, Launch] = {}

    def run(self, text: KernelText, buffers: dict[str, Array], symbols: Mapping[str, int]) -> None:
        """Run the functions of a kernel on its buffers, which are written in place."""
        for each in text.scratch:
            size = each.elements.evaluate(symbols)
            buffers[each.name] = np.full(size, 77).astype(each.dtype.numpy)
        for part in text.parts:
            made = self.objects[part.name]
            launch = self.launches.setdefault(part.name, Launch(made.ptx))
            given = [
                buffers[n] if kind.startswith("*") else symbols[n.removeprefix("dim_")]
                for n, kind in part.signature.items()
            ]
            programs = part.programs.evaluate(symbols)
            if programs:
                launch.run((programs,), given, warps=made.job.warps, shared=made.shared)


class PtxEvaluator(Evaluator):
    """The reference evaluator with every kernel run as its compiled code."""

    def __init__(self, module: Module, kernels: Kernels, number: int = 0) -> None:
        """Use the kernels of the module of that number."""
        super().__init__(module)
        self.kernels_of, self.lowered = kernels, kernels.lowered[number]

    def run(self, op: Any) -> Sequence[Array]:
        """Run a call on the interpreter."""
        if not isinstance(op, CallOp):
            return super().run(op)
        low = self.lowered[op.callee.data]
        given = [np.asarray(self.values[a]) for a in op.args]
        given = [low.packs[i](a) if i in low.packs else a for i, a in enumerate(given)]
        if low.count is not None:
            *state, sizes = self.program(low.count, given)
            names = decided(self.kernels[op.callee.data])
            self.symbols.update({s.name: int(v) for s, v in zip(names, sizes, strict=True)})
            given += state
        results = self.program(low.program, given)
        wanted = [[d.evaluate(self.symbols) for d in spec(r).dims] for r in op.results]
        return [r.reshape(shape) for r, shape in zip(results, wanted, strict=True)]

    def program(self, program: Any, given: Sequence[Array]) -> list[Array]:
        """The outputs of a tile program."""
        names, values = program.names.data, list(program.body.block.args)
        buffers = {n: np.array(a, order="C") for n, a in zip(names, given, strict=False)}
        made = names[len(given) :]
        for name, value, begin in zip(made, values[len(given) :], program.begun, strict=True):
            its = buffer_of(value)
            shape = [d.evaluate(self.symbols) for d in its.dims]
            buffers[name] = (
                np.full(shape, 77).astype(its.dtype.numpy)
                if begin < 0
                else buffers[names[begin]].reshape(shape).copy()
            )
        text = self.kernels_of.texts[program.sym_name.data]
        self.kernels_of.run(text, buffers, self.symbols)
        return [buffers[n] for n in made]


def interpreted(
    module: Module, inputs: Mapping[str, Array], kernels: Kernels, number: int = 0
) -> dict[str, Array]:
    """Outputs by name, every kernel run as compiled."""
    entry = next(iter(module.entries()))
    evaluator = PtxEvaluator(module, kernels, number)
    arrays = [np.asarray(inputs[name]) for name in entry.inputs.data]
    evaluator.bind_inputs(entry, arrays)
    return dict(zip(entry.outputs.data, evaluator.block(entry.body.block, arrays), strict=True))


@pytest.fixture(scope="session")
def samples() -> tuple[list[Module], list[dict[str, Array]], Kernels]:
    """Every sample's module and inputs, and the kernels of all."""
    modules: list[Module] = []
    inputs: list[dict[str, Array]] = []
    for sample in SAMPLES:
        module, given = sample.module()
        run(module, [Fuse()])
        modules.append(module)
        inputs.append(given)
    return modules, inputs, Kernels(modules, SMALL)


@pytest.fixture
def sample_results(
    samples: tuple[list[Module], list[dict[str, Array]], Kernels],
) -> Callable[[int], list[tuple[Array, Array, float]]]:
    """What a sample's kernels give and what they should, and how far they may be apart."""

    def results(number: int) -> list[tuple[Array, Array, float]]:
        modules, inputs, kernels = samples
        sample = SAMPLES[number]
        have = interpreted(modules[number], inputs[number], kernels, number)
        tolerance = max(sample.tolerance, 1e-5)
        return [(a, b, tolerance) for a, b in zip(have.values(), sample.run(), strict=True)]

    return results


@pytest.fixture
def interpret() -> Callable[[Module, Mapping[str, Array]], dict[str, Array]]:
    """Runs a fused module with every kernel as its compiled code; tiles as for a device."""

    def run_on(module: Module, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return interpreted(module, inputs, Kernels([module], BlockMachine()))

    return run_on


@pytest.fixture(scope="session")
def together() -> Callable[[list[Module]], Callable[[int, Mapping[str, Array]], dict[str, Array]]]:
    """Compiles fused modules at once; then runs the one of a number on inputs."""

    def compiled(
        modules: list[Module],
    ) -> Callable[[int, Mapping[str, Array]], dict[str, Array]]:
        kernels = Kernels(modules, SMALL)
        return lambda number, inputs: interpreted(modules[number], inputs, kernels, number)

    return compiled

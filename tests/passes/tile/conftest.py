"""Kernels of one operator, lowered and run tile by tile."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.ir.evaluator import Evaluator, evaluate
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.structure import CallOp, KernelOp
from tapeout.ir.tile import interpret
from tapeout.ir.tile.ops import buffer_of
from tapeout.ir.types import spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run
from tapeout.passes.tile.blocks import strategies as blocks
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.kernel_io import Lowered, Machine, decided
from tapeout.passes.tile.strategies import constant_operands, lower_kernel

Array = np.ndarray[Any, Any]
MACHINE = Machine(lanes=4, tile_m=3, tile_n=8, l1_bytes=1 << 15, l2_bytes=1 << 20)
BLOCKS = BlockMachine(elements=32, row=64, tile_m=16, tile_n=16, tile_k=16)


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


SAMPLES = _samples()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run per sample for tests that take ``sample``."""
    if "sample" in metafunc.fixturenames:
        ids = [f"{i}-{s}" for i, s in enumerate(SAMPLES.SAMPLES)]
        metafunc.parametrize("sample", SAMPLES.SAMPLES, ids=ids)


Lower = Callable[[KernelOp, Set[int]], Lowered]


def on_lines(kernel: KernelOp, constants: Set[int]) -> Lowered:
    """Lower a kernel for a machine of vectors."""
    return lower_kernel(kernel, MACHINE, constants)


def on_blocks(kernel: KernelOp, constants: Set[int]) -> Lowered:
    """Lower a kernel for a machine of blocks."""
    return blocks.lower_kernel(kernel, BLOCKS, constants)


class TileEvaluator(Evaluator):
    """The reference evaluator with every kernel run as its tile program."""

    def __init__(self, module: Module, lower: Lower) -> None:
        super().__init__(module)
        constants = constant_operands(module)
        self.lowered: Mapping[str, Lowered] = {
            name: lower(kernel, constants[name]) for name, kernel in module.kernels().items()
        }

    def run(self, op: Any) -> Sequence[Array]:
        """Run a call tile by tile."""
        if not isinstance(op, CallOp):
            return super().run(op)
        lowered = self.lowered[op.callee.data]
        packs = lowered.packs
        given = [np.asarray(self.values[a]) for a in op.args]
        given = [packs[i](a) if i in packs else a for i, a in enumerate(given)]
        if lowered.count is not None:
            *state, sizes = interpret.run(lowered.count, given, self.symbols)
            names = decided(self.kernels[op.callee.data])
            self.symbols.update({s.name: int(v) for s, v in zip(names, sizes, strict=True)})
            given += state
        buffers = lowered.program.body.block.args
        shaped = [
            array.reshape([d.evaluate(self.symbols) for d in buffer_of(buffer).dims])
            for array, buffer in zip(given, buffers, strict=False)
        ]
        results = interpret.run(lowered.program, shaped, self.symbols)
        wanted = [[d.evaluate(self.symbols) for d in spec(r).dims] for r in op.results]
        return [r.reshape(shape) for r, shape in zip(results, wanted, strict=True)]


def tiled(module: Module, inputs: Mapping[str, Array], lower: Lower) -> dict[str, Array]:
    """Outputs by name, every kernel run tile by tile. Changes the module: it is fused."""
    run(module, [Fuse()])
    op = next(iter(module.entries()))
    evaluator = TileEvaluator(module, lower)
    arrays = [np.asarray(inputs[name]) for name in op.inputs.data]
    evaluator.bind_inputs(op, arrays)
    results = evaluator.block(op.body.block, arrays)
    return dict(zip(op.outputs.data, results, strict=True))


def assert_close(have: Array, want: Array, tolerance: float) -> None:
    """Equal type and shape; floats within a tolerance relative to the largest magnitude."""
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    if want.dtype.kind in "biu" or "int" in want.dtype.name:
        np.testing.assert_array_equal(have, want)
        return
    a, b = want.astype(np.float64), have.astype(np.float64)
    top = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * max(top, 1e-3))


@pytest.fixture(params=[on_lines, on_blocks], ids=["lines", "blocks"])
def lower(request: pytest.FixtureRequest) -> Lower:
    """What lowers kernels, for either kind of machine."""
    return request.param


@pytest.fixture
def agrees(lower: Lower) -> Callable[..., None]:
    """Compare an operator's tile program with its reference: ``agrees(name, *arrays, **attrs)``."""

    def check(name: str, *operands: Any, tolerance: float = 1e-5, **attrs: Any) -> None:
        compare(SAMPLES.Sample(name, operands, attrs, tolerance), lower)

    return check


@pytest.fixture
def compared(lower: Lower) -> Callable[[Any], None]:
    """Compare a sample's tile program with its reference."""
    return lambda sample: compare(sample, lower)


def compare(sample: Any, lower: Lower) -> None:
    """Fail unless the tile programs of a sample give what its operator means."""
    module, inputs = sample.module()
    want = evaluate(module, inputs)
    assert issubclass(sample.cls, NNOp)
    have = tiled(module, inputs, lower)
    for name, array in want.items():
        assert_close(have[name], array, max(sample.tolerance, 1e-5))

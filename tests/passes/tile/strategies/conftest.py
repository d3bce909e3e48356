"""Whole kernels lowered for machines of several widths and run by the tile interpreter."""

import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DType
from tapeout.ir.evaluator import Evaluator, evaluate
from tapeout.ir.module import Module
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.structure import CallOp, EntryOp, KernelOp
from tapeout.ir.tile import interpret
from tapeout.ir.tile.ops import buffer_of
from tapeout.ir.types import spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.layout.explicit_padding import ExplicitPadding
from tapeout.passes.manager import run
from tapeout.passes.pipeline import LAYOUT
from tapeout.passes.tile.blocks import strategies as blocks
from tapeout.passes.tile.blocks.machine import BlockMachine
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.strategies import constant_operands, lower_kernel

Array = np.ndarray[Any, Any]
Sizes = Mapping[str, int]

MACHINES = {
    4: Machine(lanes=4, tile_m=3, tile_n=8, l1_bytes=1 << 15, l2_bytes=1 << 18),
    8: Machine(lanes=8, tile_m=6, tile_n=16, l1_bytes=1 << 15, l2_bytes=1 << 20),
    16: Machine(lanes=16, tile_m=14, tile_n=32, l1_bytes=1 << 15, l2_bytes=1 << 20),
}
BLOCKS = BlockMachine(elements=32, row=64, tile_m=16, tile_n=16, tile_k=16)


@pytest.fixture
def pairs() -> frozenset[DType]:
    """Floats of which a machine sums two products at once; tests that care parametrise it."""
    return frozenset()


@pytest.fixture
def looked_up_bits() -> int:
    """Bits of codes that a machine looks up; tests that care say."""
    return 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each machine; a module whose strategies blocks do not have says ``LANES``."""
    if "lanes" in metafunc.fixturenames:
        module = sys.modules[metafunc.function.__module__]
        lanes: Sequence[int] = getattr(module, "LANES", (*MACHINES, 0))
        metafunc.parametrize("lanes", lanes, ids=[f"{n} lanes" if n else "blocks" for n in lanes])


@pytest.fixture
def machine(lanes: int, pairs: frozenset[DType], looked_up_bits: int) -> Machine | BlockMachine:
    """A device of some lanes, or one of blocks."""
    if not lanes:
        return BLOCKS
    return replace(MACHINES[lanes], pairs=pairs, looked_up_bits=looked_up_bits)


def lowered(kernel: KernelOp, machine: Machine | BlockMachine, constants: Set[int]) -> Lowered:
    """The tile program of a kernel for a machine of either kind."""
    if isinstance(machine, BlockMachine):
        return blocks.lower_kernel(kernel, machine, constants)
    return lower_kernel(kernel, machine, constants)


class TileEvaluator(Evaluator):
    """The reference evaluator with every kernel run as its tile program, there and back."""

    def __init__(self, module: Module, machine: Machine | BlockMachine) -> None:
        super().__init__(module)
        constants = constant_operands(module)
        self.lowered: dict[str, Lowered] = {
            name: lowered(kernel, machine, constants[name])
            for name, kernel in module.kernels().items()
        }

    def run(self, op: Any) -> Sequence[Array]:
        """Run a call tile by tile; parallel loops in both directions."""
        if not isinstance(op, CallOp):
            return super().run(op)
        lowered = self.lowered[op.callee.data]
        assert lowered.count is None, "no data decides a size here"
        lowered.program.verify()
        given = [np.asarray(self.values[a]) for a in op.args]
        given = [lowered.packs[i](a) if i in lowered.packs else a for i, a in enumerate(given)]
        buffers = [buffer_of(v) for v in lowered.program.body.block.args]
        shaped = [
            a.reshape([d.evaluate(self.symbols) for d in b.dims])
            for a, b in zip(given, buffers, strict=False)
        ]
        there = interpret.run(lowered.program, shaped, self.symbols)
        back = interpret.run(lowered.program, shaped, self.symbols, backwards=True)
        for a, b in zip(there, back, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="parallel iterations depend on each other")
        wanted = [[d.evaluate(self.symbols) for d in spec(r).dims] for r in op.results]
        return [r.reshape(shape) for r, shape in zip(there, wanted, strict=True)]


def drawn(entry: EntryOp, sizes: Sizes) -> dict[str, Array]:
    random = np.random.default_rng(5)
    arrays: dict[str, Array] = {}
    for name, value in zip(entry.inputs.data, entry.body.block.args, strict=True):
        want = spec(value)
        shape = [d.evaluate(sizes) for d in want.dims]
        top = 128 if is_byte(want.dtype) else 2
        made = (
            random.standard_normal(shape) if want.dtype.is_float else random.integers(0, top, shape)
        )
        arrays[name] = np.asarray(made).astype(want.dtype.numpy)
    return arrays


@pytest.fixture
def lowers(machine: Machine | BlockMachine) -> Callable[..., list[str]]:
    """``lowers(module, sizes...)``: tile programs agree with the evaluator; gives their titles."""

    def check(module: Module, *sizes: Sizes, tolerance: float = 1e-5) -> list[str]:
        cases = [drawn(next(module.entries()), s) for s in sizes or ({},)]
        wanted = [evaluate(module, arrays) for arrays in cases]
        run(module, [*LAYOUT, ExplicitPadding(), Fuse()], verify="each")
        entry = next(module.entries())
        titles: list[str] = []
        for arrays, want in zip(cases, wanted, strict=True):
            tiled = TileEvaluator(module, machine)
            given = [arrays[name] for name in entry.inputs.data]
            tiled.bind_inputs(entry, given)
            have = tiled.block(entry.body.block, given)
            for (name, a), b in zip(want.items(), have, strict=True):
                shapes = {n: x.shape for n, x in arrays.items()}
                same(a, b, tolerance, f"{name} for {shapes}")
            titles = [low.program.title.data for low in tiled.lowered.values()]
        return titles

    return check


def same(want: Array, have: Array, tolerance: float, message: str) -> None:
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    a, b = want.astype(np.float64), have.astype(np.float64)
    top = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * top, err_msg=message)

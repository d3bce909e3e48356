"""Small modules for tests of passes: build one, run passes on it, compare before and after."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DTYPES
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import Expr, symbol
from tapeout.ir.expr_text import parse_exprs
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.manager import Pass, run

Array = np.ndarray[Any, Any]
Sizes = dict[str, int]
Counts = Counter[str]

SYMBOLS: dict[str, Expr] = {
    "B": symbol("B", 1, 8),
    "S": symbol("S", 1, 512),
    "T": symbol("T", 1, 512),
}
SOURCES = ("nn.constant", "nn.weight", "nn.entry", "nn.return", "builtin.module")


class Graph(Emit):
    """A module with one entry, in the making; inputs are ``name="f32 B, S, 64"``."""

    def __init__(self, **inputs: str) -> None:
        specs = [(name, parsed(text)) for name, text in inputs.items()]
        self.entry = EntryOp("main", specs)
        self.module = Module(ModuleOp([self.entry]))
        self.random = np.random.default_rng(7)
        super().__init__(Builder(InsertPoint.at_end(self.entry.body.block)))

    def __getitem__(self, name: str) -> SSAValue:
        names: tuple[str, ...] = self.entry.inputs.data
        return self.entry.body.block.args[names.index(name)]

    def fixed(self, values: Any, dtype: str = "f32") -> SSAValue:
        """A tensor that no input decides: a literal, or in the weight store when large."""
        array = np.asarray(values).astype(DTYPES[dtype].numpy)
        return self.builder.insert(self.module.constant(array)).results[0]

    def weight(self, *shape: int) -> SSAValue:
        """A fixed tensor of normal random numbers."""
        return self.fixed(self.random.standard_normal(shape) / 4)

    def shaped(self, x: SSAValue, text: str) -> SSAValue:
        """``x`` reshaped to ``"B, S, 64"``."""
        return self.reshape(x, dims(text))

    def conv(self, x: SSAValue, outputs: int, kernel: int, **attrs: Any) -> SSAValue:
        """A square convolution of fixed random weights that keeps the size at stride 1."""
        groups = attrs.get("groups", 1)
        w = self.weight(outputs, int(spec(x).dims[1]) // groups, kernel, kernel)
        half = kernel // 2
        window = {"strides": (1, 1), "pads": (half,) * 4, "dilations": (1, 1)}
        return self.op(ConvOp, x, w, self.weight(outputs), **(window | attrs))

    def returning(self, *values: SSAValue) -> Module:
        """End the entry; outputs are ``y0``, ``y1``, ..."""
        self.builder.insert(ReturnOp(list(values)))
        names = tuple(f"y{i}" for i in range(len(values)))
        self.entry.properties["outputs"] = type(self.entry.outputs)(names)
        self.module.ir.verify()
        return self.module


def dims(text: str) -> tuple[Expr, ...]:
    return parse_exprs(text, SYMBOLS)


def parsed(text: str) -> Spec:
    dtype, _, shape = text.partition(" ")
    return Spec(dims(shape), DTYPES[dtype])


def counted(module: Module) -> Counts:
    """Operators by name, maps by their function; what only holds numbers is left out."""
    ops = [op for op in module.ir.walk() if op.name not in SOURCES]
    return Counter(op.fn.data if isinstance(op, MapOp) else op.name[3:] for op in ops)


def drawn(module: Module, sizes: Sizes, seed: int) -> dict[str, Array]:
    """Inputs for given symbol values: normal floats, small integers, random truth values."""
    random = np.random.default_rng(seed)
    entry = next(module.entries())
    arrays: dict[str, Array] = {}
    for name, value in zip(entry.inputs.data, entry.body.block.args, strict=True):
        want = spec(value)
        shape = [d.evaluate(sizes) for d in want.dims]
        if want.dtype.is_float:
            made = random.standard_normal(shape)
        else:
            made = random.integers(0, 2 if want.dtype.kind == "bool" else 9, shape)
        arrays[name] = made.astype(want.dtype.numpy)
    return arrays


def agree(
    module: Module, passes: Sequence[Pass], *sizes: Sizes, rtol: float = 2e-6, atol: float = 2e-6
) -> Counts:
    """Run ``passes``, verified after each; outputs must stay as they were at every size.

    Tolerances are relative to the output's largest magnitude. Returns the operators left.
    """
    cases = [(s, drawn(module, s, seed)) for seed, s in enumerate(sizes or ({},))]
    before = [evaluate(module, arrays) for _, arrays in cases]
    run(module, passes, verify="each")
    for (size, arrays), want in zip(cases, before, strict=True):
        have = evaluate(module, arrays)
        for name in want:
            a, b = want[name].astype(np.float64), have[name].astype(np.float64)
            top = np.abs(a[np.isfinite(a)]).max(initial=0.0)
            message = f"{name} at {size}"
            np.testing.assert_allclose(b, a, rtol=rtol, atol=atol + rtol * top, err_msg=message)
    return counted(module)


@pytest.fixture
def graph() -> type[Graph]:
    """The builder of small modules."""
    return Graph


@pytest.fixture
def check() -> Callable[..., Counts]:
    """:func:`agree`: run passes and compare outputs before and after."""
    return agree

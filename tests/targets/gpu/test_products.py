"""Products of weights, compiled and interpreted: packed codes of few bits, and few rows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DTYPES, dtype_of
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run

Array = np.ndarray[Any, Any]
Case = tuple[Module, dict[str, Array]]
Together = Callable[[list[Module]], Callable[[int, Mapping[str, Array]], dict[str, Array]]]


def module(inputs: Mapping[str, Array], result: Callable[[Emit, Module, Any], SSAValue]) -> Module:
    """A fused module of one entry; ``result`` gets the inputs as values."""
    specs = [(n, Spec(tuple(map(as_expr, a.shape)), dtype_of(a))) for n, a in inputs.items()]
    entry, made = EntryOp("main", specs), Module()
    made.ir.body.block.add_op(entry)
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    emit.builder.insert(ReturnOp([result(emit, made, entry.body.block.args)]))
    entry.properties["outputs"] = type(entry.outputs)(("y",))
    run(made, [Fuse()])
    return made


def of_codes(bits: int, group: int, groups: int, rows: int, *, zeros: bool) -> Case:
    """A product of ``rows`` with 40 columns of codes."""
    random = np.random.default_rng(bits)
    k, n = group * groups, 40
    a = random.integers(-127, 128, (rows, k)).astype(np.int8)
    codes = random.integers(0, 1 << bits, (n, k)).astype(np.uint8)
    scale = random.random((n, groups)).astype(np.float32)
    zero = random.integers(0, 1 << bits, (n, groups)).astype(np.uint8) if zeros else None
    inputs = {
        "a": a,
        "s": random.random((rows, 1)).astype(np.float32),
        "sums": a.reshape(rows, groups, group).sum(-1, dtype=np.int32),
    }

    def result(emit: Emit, made: Module, args: Any) -> SSAValue:
        fixed = [
            None if array is None else emit.builder.insert(made.constant(array)).results[0]
            for array in (codes, scale, zero)
        ]
        point = 0 if zeros else 1 << bits - 1
        return emit.op(GroupedMatmulOp, *args, *fixed, group=group, bits=bits, point=point)

    return module(inputs, result), inputs


def of_few_rows(dtype: str, rows: int, *, transposed: bool) -> Case:
    """A product of few rows, with 70 columns and sums of 250."""
    random = np.random.default_rng(rows)
    shapes = (rows, 250), (70, 250) if transposed else (250, 70)
    if dtype == "i8":
        arrays = [random.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
    else:
        arrays = [random.standard_normal(shape).astype(DTYPES[dtype].numpy) for shape in shapes]
    inputs = dict(zip("ab", arrays, strict=True))
    return module(inputs, lambda emit, _, args: emit.matmul(*args, transpose_b=transposed)), inputs


CASES: dict[str, Callable[[], Case]] = {
    "4 bits, one row": lambda: of_codes(4, 32, 6, 1, zeros=False),
    "4 bits, a block past the last group": lambda: of_codes(4, 32, 5, 17, zeros=True),
    "3 bits, long groups": lambda: of_codes(3, 96, 3, 5, zeros=False),
    "2 bits, short groups": lambda: of_codes(2, 16, 7, 2, zeros=True),
    "8 bits, one group": lambda: of_codes(8, 128, 1, 3, zeros=False),
    "4 bits, sums in parts": lambda: of_codes(4, 32, 17, 6, zeros=True),
    "twelve rows, sums in parts": lambda: of_few_rows("bf16", 12, transposed=False),
    "one row of f32": lambda: of_few_rows("f32", 1, transposed=True),
    "four rows of f32": lambda: of_few_rows("f32", 4, transposed=False),
    "two rows of bf16": lambda: of_few_rows("bf16", 2, transposed=True),
    "three rows of bytes": lambda: of_few_rows("i8", 3, transposed=False),
}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [make() for make in CASES.values()]


@pytest.fixture(scope="module")
def runs(cases: list[Case], together: Together) -> Callable[[int], dict[str, Array]]:
    compiled = together([made for made, _ in cases])
    return lambda number: compiled(number, cases[number][1])


@pytest.mark.parametrize("case", range(len(CASES)), ids=list(CASES))
def test_products_of_weights_give_what_they_mean(
    case: int, cases: list[Case], runs: Callable[[int], dict[str, Array]]
) -> None:
    made, inputs = cases[case]
    (want,) = evaluate(made, inputs).values()
    (have,) = runs(case).values()
    assert have.dtype == want.dtype
    if want.dtype.kind in "iu":
        np.testing.assert_array_equal(have, want)
    else:
        top = float(np.abs(want.astype(np.float64)).max())
        close = 8e-3 if want.dtype.itemsize == 2 else 1e-5
        np.testing.assert_allclose(
            have.astype(np.float64), want.astype(np.float64), rtol=close, atol=close * top
        )

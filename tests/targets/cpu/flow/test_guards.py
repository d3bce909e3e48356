"""Sizes that a caller got wrong: refused before a kernel runs, as the evaluator refuses them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import f32
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import as_expr, ceildiv, maximum, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp, SliceOp
from tapeout.ir.types import Spec
from tapeout.runtime import artifact
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program, load
from tapeout.targets.cpu import target
from tapeout.targets.host.interface import interface_of


def ones(*dims: int) -> Any:
    return np.ones(dims, np.float32)


FAMILIES: list[tuple[str, int, Mapping[str, Any], Mapping[str, Any], str]] = [
    ("(float[N] x, float[M] y) => (z) { z = Add(x, y) }", 1,
     {"x": ones(3), "y": ones(3)}, {"x": ones(1), "y": ones(5)}, "M == N"),
    ("(float[2,N] x, float[M,3] y) => (z) { z = MatMul(x, y) }", 2,
     {"x": ones(2, 5), "y": ones(5, 3)}, {"x": ones(2, 5), "y": ones(4, 3)}, "M == N"),
    ("(float[N,2] x, float[M,3] y) => (z) { z = Concat<axis=1>(x, y) }", 2,
     {"x": ones(4, 2), "y": ones(4, 3)}, {"x": ones(40, 2), "y": ones(4, 3)}, "M == N"),
    ("(float[1,N,8,8] x, float[4,3,3,3] w) => (z) { z = Conv(x, w) }", 4,
     {"x": ones(1, 3, 8, 8), "w": ones(4, 3, 3, 3)},
     {"x": ones(1, 2, 8, 8), "w": ones(4, 3, 3, 3)}, "N == 3"),
    ("(float[1,3,N,8] x, float[4,3,3,3] w) => (z) { z = Conv(x, w) }", 4,
     {"x": ones(1, 3, 3, 8), "w": ones(4, 3, 3, 3)},
     {"x": ones(1, 3, 1, 8), "w": ones(4, 3, 3, 3)}, "N >= 2"),
    ("(float[N] x) => (z) { k = Constant<value_ints=[5]>() z, i = TopK(x, k) }", 1,
     {"x": ones(5)}, {"x": ones(4)}, "N >= 5"),
    ("(float[N,4] x, int64[M,K] i) => (z) { z = GatherElements(x, i) }", 2,
     {"x": ones(9, 4), "i": np.zeros((2, 4), np.int64)},
     {"x": ones(9, 4), "i": np.zeros((2, 5), np.int64)}, "4 >= K"),
    ("(float[7] x, int64[M] i, float[N] u) => (z) { z = ScatterElements(x, i, u) }", 1,
     {"x": ones(7), "i": np.zeros(2, np.int64), "u": ones(2)},
     {"x": ones(7), "i": np.zeros(9, np.int64), "u": ones(2)}, "M == N"),
    ("(float[2,N] x, float[M] s) => (z) { z = LayerNormalization(x, s) }", 2,
     {"x": ones(2, 6), "s": ones(6)}, {"x": ones(2, 6), "s": ones(5)}, "M == N"),
    ("(float[N,M] x) => (z) { z = Det(x) }", 0,
     {"x": ones(3, 3)}, {"x": ones(3, 2)}, "M == N"),
    ("(float[N] x) => (z) { s = Constant<value_ints=[-1,4]>() z = Reshape(x, s) }", 2,
     {"x": ones(8)}, {"x": ones(9)}, "(N % 4) == 0"),
]  # fmt: skip


@pytest.mark.parametrize(("graph", "rank", "fits", "breaks", "needed"), FAMILIES)
def test_a_broken_guard_is_told(
    compiled: Callable[..., Any], graph: str, rank: int, fits: Any, breaks: Any, needed: str
):
    both = compiled("g " + graph.replace("(z)", f"(float[{', '.join('PQRSTU'[:rank])}] z)"))
    both.agree(**fits)
    with pytest.raises(RunError) as refused:
        both.run(**breaks)
    assert "E0514" in str(refused.value)
    assert needed in str(refused.value)
    with pytest.raises(CompileError) as also:
        evaluate(both.module, both.arrays(breaks))
    assert "E0208" in str(also.value)
    assert needed in str(also.value)


def test_a_size_of_one_is_not_repeated(compiled: Callable[..., Any]):
    both = compiled("g (float[N] x, float[M] y) => (float[K] z) { z = Add(x, y) }")
    both.agree(x=ones(3), y=ones(3))
    assert [tuple(n) for n in both.program.manifest.needs] == [("M == N", "add", False)]
    with pytest.raises(RunError) as refused:
        both.run(x=ones(1), y=ones(5))
    text = str(refused.value)
    assert "E0514" in text
    assert "M == N" in text
    assert "M = 5 (axis 0 of input 'y'), N = 1 (axis 0 of input 'x')" in text
    assert "--dim M=1 or --dim N=1" in text
    fixed = compiled("g (float[N] x, float[M] y) => (float[K] z) { z = Add(x, y) }", dims={"N": 1})
    fixed.agree(x=ones(1), y=ones(5))


def test_sizes_that_data_decides_are_checked_where_they_are_relied_on(compiled: Callable[..., Any]):
    both = compiled(
        "g (float[N] x, float[M] y) => (int64[1,K] z)"
        "{ a = NonZero(x) b = NonZero(y) z = Add(a, b) }"
    )
    both.agree(x=ones(3), y=[1.0, 0.0, 2.0, 5.0])
    assert [tuple(n) for n in both.program.manifest.needs] == [("n0 == n1", "add", True)]
    with pytest.raises(RunError, match="E0517") as refused:
        both.run(x=ones(3), y=ones(4))
    assert "n0 = 3 (decided by data)" in str(refused.value)
    with pytest.raises(CompileError, match="E0208"):
        evaluate(both.module, both.arrays({"x": ones(3), "y": ones(4)}))


def test_a_size_outside_its_range_is_told_with_input_and_axis(compiled: Callable[..., Any]):
    text = "g (float[2, N] x) => (float[2, N] z) { z = Neg(x) }"
    for dims, told in (({}, "N is 1 or more"), ({"N": (2, 8)}, "N is 2 to 8")):
        with pytest.raises(RunError, match="E0513") as refused:
            compiled(text, dims=dims).run(x=ones(2, 0))
        for words in ("input 'x'", "axis:     1", told, "got:      0"):
            assert words in str(refused.value)


def test_names_in_a_refusal_are_short_and_printable(compiled: Callable[..., Any]):
    both = compiled("g (float[N] x, float[M] y) => (float[K] z) { z = Add(x, y) }")
    face = interface_of(next(both.module.entries()))
    spec = Spec((symbol("N", 1),), f32)
    named = replace(face, inputs=(("line\n  fix: none" + "x" * 99, spec),))
    assert named.places["N"].startswith("axis 0 of input 'line\\n  fix: nonexxx")
    assert len(named.places["N"]) < 70


def test_a_branch_that_is_not_taken_needs_nothing(compiled: Callable[..., Any]):
    both = compiled(
        "g (float[N] x, float[M] y, bool c) => (float[K] z) { z = If(c) <"
        "then_branch = t () => (float[P] a) { a = Add(x, y) },"
        "else_branch = e () => (float[Q] b) { b = Neg(x) }> }"
    )
    both.agree(x=ones(3), y=ones(3), c=True)
    both.agree(x=ones(3), y=ones(5), c=False)
    with pytest.raises(RunError, match="E0514"):
        both.run(x=ones(3), y=ones(5), c=True)


A, B = symbol("A", 0), symbol("B", 0)


def program(make: Callable[[Emit, SSAValue], SSAValue], folder: Path) -> Program:
    """A program of one input ``x [A, B]``."""
    entry = EntryOp("main", [("x", Spec((A, B), f32))], ["y"])
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    emit.builder.insert(ReturnOp([make(emit, entry.body.block.args[0])]))
    module = Module()
    module.ir.body.block.add_op(entry)
    driver.lower(module)
    made = target.compile_module(module, driver.targeted("cpu"))
    path = folder / "model.tapeout"
    artifact.write(path, made.manifest, made.files, "file")
    return load(path, threads=1)


def test_a_result_too_large_to_count_is_refused(tmp_path: Path):
    made = program(lambda d, x: d.expand(d.like(1, x), (B, B, B)), tmp_path)
    assert made.run({"x": ones(0, 3)})["y"].shape == (3, 3, 3)
    for size in (2**21, 2**31, 2**40):
        with pytest.raises(RunError, match="E0516"):
            made.run({"x": ones(0, size)})


def test_a_guard_too_large_to_count_is_refused(tmp_path: Path):
    made = program(lambda d, x: d.reshape(d.expand(d.like(1, x), (B, B)), (B * B * B, A)), tmp_path)
    assert made.run({"x": ones(1, 1)})["y"].shape == (1, 1)
    with pytest.raises(RunError, match="E0514"):
        made.run({"x": ones(0, 3)})
    with pytest.raises(RunError, match="E0516"):
        made.run({"x": ones(0, 2**40)})


@pytest.mark.parametrize("step", [1, 2, -1])
def test_an_empty_slice_may_start_past_the_end(step: int, tmp_path: Path):
    def behind_five(d: Emit, x: SSAValue) -> SSAValue:
        kept = maximum(0, ceildiv(B - 5, abs(step)))
        start = as_expr(5) if step > 0 else B - 6
        part = d.op(SliceOp, x, starts=(as_expr(0), start), sizes=(A, kept), steps=(1, step))
        return d.op(ConcatOp, (part, x), axis=1)

    made = program(behind_five, tmp_path)
    for size in (2, 4, 5, 6, 9):
        x = np.arange(3.0 * size, dtype=np.float32).reshape(3, size)
        part = x[:, 5:][:, ::step] if step > 0 else x[:, : max(0, size - 5)][:, ::-1]
        np.testing.assert_array_equal(made.run({"x": x})["y"], np.concatenate((part, x), 1))


def test_empty_inputs_give_empty_results(tmp_path: Path):
    made = program(lambda d, x: d.map("exp", d.matmul(x, x, transpose_b=True)), tmp_path)
    for shape in ((0, 3), (3, 0), (0, 0)):
        x = ones(*shape)
        np.testing.assert_array_equal(made.run({"x": x})["y"], np.exp(x @ x.T))

"""Sizes between inputs and buffers: expressions as dimensions, and plans made while running."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.rewriter import InsertPoint

from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import f32
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.runtime import artifact
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program, load
from tapeout.targets.cpu import target
from tapeout.targets.host.interface import interface_of

N, M = symbol("N", 1, 1000), symbol("M", 1, 1000)


def chained(*inputs: Sequence[Expr]) -> Module:
    """Two kernels per input, so that there is an arena: ``exp`` of the sum over the first axis."""
    specs = [(f"x{i}", Spec(tuple(map(as_expr, d)), f32)) for i, d in enumerate(inputs)]
    entry = EntryOp("main", specs, [f"y{i}" for i in range(len(inputs))])
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    values = [
        emit.map(
            "exp", emit.matmul(emit.map("tanh", emit.reduce("sum", x, [0])), x, transpose_b=True)
        )
        for x in entry.body.block.args
    ]
    emit.builder.insert(ReturnOp(values))
    module = Module()
    module.ir.body.block.add_op(entry)
    return module


def built(module: Module, folder: Path) -> Program:
    driver.lower(module)
    made = target.compile_module(module, driver.targeted("cpu"))
    path = folder / "model.tapeout"
    artifact.write(path, made.manifest, made.files, "file")
    return load(path, threads=2)


def check(program: Program, *shapes: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(map(sum, shapes)))
    xs: list[Any] = [random.standard_normal(s).astype(np.float32) / 4 for s in shapes]
    have = program.run({f"x{i}": x for i, x in enumerate(xs)})
    for i, x in enumerate(xs):
        want = np.exp(np.tanh(x.sum(0, keepdims=True)) @ x.T)
        np.testing.assert_allclose(have[f"y{i}"], want, rtol=1e-4, atol=1e-5)


def test_a_symbol_that_only_an_expression_shows_is_solved(tmp_path: Path):
    program = built(chained([N * 2 + 3, as_expr(4)]), tmp_path)
    for n in (1, 30, 7):
        check(program, (2 * n + 3, 4))
    with pytest.raises(RunError, match="E0514"):
        check(program, (8, 4))
    with pytest.raises(RunError, match="E0513"):
        check(program, (3, 4))


def test_axes_of_expressions_agree_with_their_symbols(tmp_path: Path):
    program = built(chained([N, as_expr(4)], [N * M + 1, M]), tmp_path)
    check(program, (3, 4), (16, 5))
    check(program, (20, 4), (21, 1))
    with pytest.raises(RunError, match="E0514"):
        check(program, (3, 4), (17, 5))
    check(program, (3, 4), (16, 5))


def test_a_symbol_that_no_axis_tells_is_refused():
    entry = next(chained([N * M, as_expr(4)]).entries())
    with pytest.raises(CompileError, match="E0402"):
        interface_of(entry)


def test_the_arena_follows_the_sizes_of_each_call(tmp_path: Path):
    program = built(chained([N, M], [M, N]), tmp_path)
    for n, m in ((1, 1), (700, 3), (3, 700), (1, 1), (64, 64), (999, 1000)):
        check(program, (n, m), (m, n))


def test_scratch_is_there_for_every_thread(tmp_path: Path):
    program = built(chained([N, as_expr(257)]), tmp_path)
    x = np.random.default_rng(0).standard_normal((900, 257)).astype(np.float32) / 8
    want = program.run({"x0": x})["y0"]
    for threads in (1, 3, 5, 8):
        other = load(tmp_path / "model.tapeout", threads=threads)
        np.testing.assert_array_equal(other.run({"x0": x})["y0"], want)


def test_sizes_beyond_all_memory_are_refused_when_they_come(tmp_path: Path):
    """A range without an end costs nothing; 2**40 rows of nothing ask for 2**80 bytes."""
    rows, columns = symbol("R", 0), symbol("C", 0)
    entry = EntryOp(
        "main",
        [("a", Spec((rows, as_expr(0)), f32)), ("b", Spec((columns, as_expr(0)), f32))],
        ["y"],
    )
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    a, b = entry.body.block.args
    y = emit.map("exp", emit.map("tanh", emit.matmul(a, b, transpose_b=True)))
    emit.builder.insert(ReturnOp([emit.reduce("sum", emit.map("sin", y), [0, 1])]))
    module = Module()
    module.ir.body.block.add_op(entry)
    program = built(module, tmp_path)
    zeros = {"a": np.zeros((3, 0), np.float32), "b": np.zeros((4, 0), np.float32)}
    np.testing.assert_allclose(program.run(zeros)["y"], 12 * np.sin(1.0), rtol=1e-5)
    huge = {"a": np.zeros((2**40, 0), np.float32), "b": np.zeros((2**40, 0), np.float32)}
    with pytest.raises(RunError, match="E0516"):
        program.run(huge)
    np.testing.assert_allclose(program.run(zeros)["y"], 12 * np.sin(1.0), rtol=1e-5)

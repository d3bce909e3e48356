"""What operators assume of sizes: recorded, proved away, reduced, and checked while evaluating."""

from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.dialects import test as opaque
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.assumptions import guard, listening, may_be_at_least, may_equal
from tapeout.ir.build import Emit
from tapeout.ir.dialect import operators
from tapeout.ir.dtypes import f32, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import Expr, as_expr, ceildiv, maximum, minimum, symbol
from tapeout.ir.guards import equalities, guards, minimal, op_guards
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.proofs import proves_at_least
from tapeout.ir.types import Spec, TensorType

S, T, N = symbol("S", 1), symbol("T", 1, 512), symbol("N", 0)
CONV = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}


def value(*dims: Any, dtype: Any = f32) -> SSAValue:
    return opaque.TestOp(result_types=[TensorType.of(dims, dtype)]).results[0]


def texts(name: str, *operands: Any, **attrs: Any) -> list[str]:
    cls = operators()[name]
    assert issubclass(cls, NNOp)
    return [g.text for g in op_guards(cls.make(*operands, **attrs))]


def exprs(*values: Any) -> tuple[Expr, ...]:
    return tuple(map(as_expr, values))


ASSUMED: list[tuple[list[str], str, tuple[Any, ...], dict[str, Any]]] = [
    (["S == T"], "nn.map", ((value(S), value(T)),), {"fn": "add"}),
    (["S == 4"], "nn.map", ((value(S), value(4)),), {"fn": "add"}),
    ([], "nn.map", ((value(S), value(1)),), {"fn": "add"}),
    (["S == T"], "nn.matmul", (value(2, S), value(T, 3)), {}),
    (["S == T"], "nn.matmul", (value(S, 2, 2), value(T, 2, 2)), {}),
    (["S == 3*T"], "nn.reshape", (value(S, 2),), {"shape": exprs(T, 6)}),
    (["S == T"], "nn.expand", (value(S),), {"shape": exprs(2, T)}),
    (["S >= 3"], "nn.slice", (value(S),), {"starts": exprs(1), "sizes": exprs(2), "steps": (1,)}),
    (["T >= S"], "nn.slice", (value(T),), {"starts": exprs(0), "sizes": (S,), "steps": (1,)}),
    (["S >= 4"], "nn.slice", (value(S),), {"starts": exprs(3), "sizes": exprs(4), "steps": (-1,)}),
    # An empty slice may begin anywhere.
    (
        ["T >= S*min(N, 1) + N"],
        "nn.slice",
        (value(T),),
        {"starts": (S,), "sizes": (N,), "steps": (1,)},
    ),
    (
        ["T + 2*min(N, 1) >= 5*N"],
        "nn.slice",
        (value(T),),
        {"starts": exprs(2), "sizes": (N,), "steps": (5,)},
    ),
    (
        ["4*min(N, 1) >= N", "T >= 4*min(N, 1)"],
        "nn.slice",
        (value(T),),
        {"starts": exprs(3), "sizes": (N,), "steps": (-1,)},
    ),
    ([], "nn.slice", (value(N),), {"starts": exprs(7), "sizes": exprs(0), "steps": (1,)}),
    (["S >= 3"], "nn.pad", (value(2), None), {"low": (S - 3,), "high": exprs(0)}),
    (["N >= 1"], "nn.pad", (value(N), None), {"low": exprs(1), "high": exprs(1), "mode": "edge"}),
    (["S == T"], "nn.concat", ((value(S, 2), value(T, 3)),), {"axis": 1}),
    (["S == 4"], "nn.conv", (value(1, S, 5, 5), value(2, 4, 1, 1), None), CONV),
    (["S >= 2"], "nn.conv", (value(1, 4, S, 5), value(2, 4, 3, 1), None), CONV),
    (["S == 2"], "nn.conv", (value(1, 4, 5, 5), value(2, 4, 1, 1), value(S)), CONV),
    (["N >= 1"], "nn.gather", (value(N), value(3, dtype=i64)), {}),
    (
        ["S >= 5", "N >= 1"],
        "nn.gather_elements",
        (value(N, S), value(2, 5, dtype=i64)),
        {"axis": 0},
    ),
    (["S == T"], "nn.gather_nd", (value(S, 3), value(T, 1, dtype=i64)), {"batch_dims": 1}),
    (
        ["S == T"],
        "nn.scatter_elements",
        (value(600), value(T, dtype=i64), value(S)),
        {},
    ),
    (["S == T"], "nn.det", (value(S, T),), {}),
    (["S == T"], "nn.layer_norm", (value(2, S), value(T), None), {"epsilon": 1e-5}),
    (["N >= 1"], "nn.arg_reduce", (value(N),), {"fn": "max", "axis": 0}),
    (["S >= 5"], "nn.top_k", (value(S),), {"k": exprs(5)}),
    (["N >= 1"], "nn.resize", (value(N),), {"sizes": (N * 2,)}),
    (
        ["S == T", "(T % 2) == 0"],
        "nn.attention",
        (value(1, T, 3, 8), value(1, 2, S, 8), value(1, 2, T, 8), None),
        {"scale": 1.0},
    ),
]


@pytest.mark.parametrize(("want", "name", "operands", "attrs"), ASSUMED)
def test_an_operator_assumes_what_it_cannot_prove(
    want: list[str], name: str, operands: tuple[Any, ...], attrs: dict[str, Any]
):
    assert sorted(texts(name, *operands, **attrs)) == sorted(want)


def test_a_divisor_is_above_zero_before_it_divides():
    have = texts("nn.reshape", value(S * 4), shape=(as_expr(4) // N, S * N))
    assert have[0] == "N >= 1"


def test_a_surely_wrong_slice_is_refused():
    with pytest.raises(CompileError, match="E0209"):
        texts("nn.slice", value(4), starts=exprs(2), sizes=exprs(3), steps=(1,))


def test_what_is_proved_is_not_assumed():
    with listening() as heard:
        assert may_equal(S * 2, S + S)
        assert may_be_at_least(512, T)
        assert not may_equal(S + 1, S)
        assert not may_be_at_least(0, S)
    assert heard == []


@pytest.mark.parametrize("step", [1, 2, 3])
def test_clamped_slices_are_proved_inside(step: int):
    start, end = minimum(T, N), minimum(N, S)
    size = maximum(0, ceildiv(end - start, step))
    assert proves_at_least(N, start + (size - 1) * step + 1)
    assert not proves_at_least(N - 1, start + (size - 1) * step + 1)


def test_guards_that_say_the_same_are_the_same():
    assert guard("==", S * 12, T * 12) == guard("==", T, S) == guard("==", S * T, T * T)
    assert guard(">=", S * 2, 5) == guard(">=", S, 3)
    assert guard(">=", (S - 3) // 2, -1) == guard(">=", S, 1)
    assert guard("==", S * N, T * N) != guard("==", S, T)  # N may be 0


def test_equal_sizes_imply_what_follows_from_them():
    found = [guard("==", S, T), guard("==", S + 1, T + 1), guard(">=", S, T), guard(">=", S, 9)]
    assert [g.text for g in minimal([*found, found[0]])] == ["S == T", "S >= 9"]
    assert equalities(found) == {next(iter(S.symbols())): T}


def added() -> Module:
    entry = EntryOp("main", [("x", Spec((S,), f32)), ("y", Spec((T,), f32))], ["z"])
    block = entry.body.block
    z = Emit(Builder(InsertPoint.at_end(block))).map("add", *block.args)
    block.add_op(ReturnOp([z]))
    return Module(ModuleOp([entry]))


def test_the_evaluator_refuses_sizes_that_are_compiled_as_equal():
    module, x = added(), np.ones(3, np.float32)
    assert [g.text for g in guards(module)] == ["S == T"]
    assert evaluate(module, {"x": x, "y": x})["z"].shape == (3,)
    with pytest.raises(CompileError) as refused:
        evaluate(module, {"x": x[:1], "y": x})
    assert "E0208" in str(refused.value)
    assert "S = 1, T = 3" in str(refused.value)
    assert "--dim S=1" in str(refused.value)

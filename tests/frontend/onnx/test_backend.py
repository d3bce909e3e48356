"""The backend convention, with the reference evaluator as the engine."""

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from tapeout.frontend.onnx.backend import Program, Rep, TapeoutBackend
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate

COMPILED: list[onnx.ModelProto] = []


def engine(model: onnx.ModelProto) -> Program:
    module = import_model(load_model(model))
    COMPILED.append(model)
    return lambda inputs: evaluate(module, inputs)


@pytest.fixture(autouse=True)
def _none_compiled():  # pyright: ignore[reportUnusedFunction]
    COMPILED.clear()


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>{text}')


def test_a_model_is_compiled_once_when_it_is_prepared():
    rep = Rep(parsed("g (float[N] x) => (float[N] y) { y = Neg(x) }"), engine)
    for n in (2, 3):
        (y,) = rep.run([np.ones(n, "f")])
        np.testing.assert_array_equal(y, -np.ones(n))
    assert len(COMPILED) == 1


def test_axes_as_an_input_are_fixed_by_the_call_and_nothing_else():
    model = parsed("""
    g (float[A, B] x, int64[1] axes) => (float[C] y) { y = ReduceSum<keepdims = 0>(x, axes) }""")
    rep = Rep(model, engine)
    assert COMPILED == []
    x = np.arange(6, dtype="f").reshape(2, 3)
    for axis in (0, 1, 0):
        (y,) = rep.run({"x": x, "axes": np.array([axis])})
        np.testing.assert_array_equal(y, x.sum(axis))
    assert [[i.name for i in m.graph.input] for m in COMPILED] == [["x"], ["x"]]


def test_an_empty_axis_is_compiled_for():
    model = parsed("""
    g (float[N, M] x, float[N] y, float[2] z) => (float[N, M] s) {
        axis = Constant<value_ints = [1]>()
        column = Unsqueeze(y, axis)
        s = Add(x, column)
    }""")
    rep = Rep(model, engine)
    for rows in (3, 0, 2, 0):
        given = [np.ones(s, "f") for s in ((rows, 4), (rows,), (2,))]
        assert rep.run(given)[0].shape == (rows, 4)
    shapes = [[[d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim]
               for i in m.graph.input] for m in COMPILED]  # fmt: skip
    assert shapes == [[["N", "M"], ["N"], [2]], [["", "M"], [""], [2]]]


def test_what_an_axis_is_computed_from_is_fixed():
    model = parsed("""
    g (float[A, B] x, int64[1] half) => (y) {
        axes = Add(half, half)
        minus = Neg(axes)
        y = Unsqueeze(x, minus)
    }""")
    (y,) = Rep(model, engine).run([np.ones((2, 3), "f"), np.array([1])])
    assert y.shape == (2, 1, 3)


def test_sequences_come_and_go_as_lists():
    model = parsed("""
    g (seq(float[N]) xs, float[N] x) => (seq(float[N]) ys, int64 n) {
        ys = SequenceInsert(xs, x)
        n = SequenceLength(ys)
    }""")
    rep = Rep(model, engine)
    for count in (0, 2):
        ys, n = rep.run([[np.zeros(2, "f")] * count, np.ones(2, "f")])
        assert n == count + 1
        np.testing.assert_array_equal(ys[-1], [1, 1])


@pytest.mark.parametrize("given", [None, np.ones(2, "f")])
def test_an_optional_may_be_absent(given: Any):
    model = parsed("g (optional(float[2]) x) => (bool y) { y = OptionalHasElement(x) }")
    (y,) = Rep(model, engine).run([given])
    assert y == (given is not None)


def test_a_refusal_is_an_error_not_an_opt_out():
    with pytest.raises(CompileError, match="E0401"):
        Rep(parsed("g (float[N] x) => (float[N] y) { y = Unheard(x) }"), engine)


def test_declared_classes_are_opted_out_of():
    model = parsed("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    with pytest.raises(BackendIsNotSupposedToImplementIt, match="strings"):
        TapeoutBackend.prepare(model)
    assert TapeoutBackend.supports_device("CPU")
    assert not TapeoutBackend.supports_device("CUDA")

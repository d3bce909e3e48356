"""Everything for which a model is refused is told at once, each refusal with its node."""

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from tapeout.frontend.onnx.backend import Rep
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate

RESIZE = 'Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn">'


def parsed(body: str, inputs: str = "float[4, 4, 5, 5] x, int64[1] axes") -> onnx.ModelProto:
    header = '<ir_version: 10, opset_import: ["" : 20, "acme" : 1]>'
    scales = "scales = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()"
    return onnx.parser.parse_model(f"{header} g ({inputs}) => (y) {{ {scales} {body} }}")


def refused(body: str, **options: Any) -> CompileError:
    with pytest.raises(CompileError) as caught:
        import_model(load_model(parsed(body, **options)))
    return caught.value


def codes(error: CompileError) -> list[str]:
    return [line[6:11] for line in str(error).splitlines() if line.startswith("error[")]


def test_refusals_before_and_behind_each_other_are_told_together() -> None:
    told = refused(f"""
        a = {RESIZE}(x, , scales)
        b = Relu(a)
        c = {RESIZE}(b, , scales)
        d = acme.Frob(x)
        e = Neg(d)
        f = ReduceSum(x, axes)
        g = Mul(c, f)
        y = Add(g, e)
    """)
    assert codes(told) == ["E0401", "E0402", "E0402", "E0405"]
    for node in ("node #1 (Resize)", "node #3 (Resize)", "node #4 (acme.Frob)", "node #6"):
        assert node in str(told)


def test_one_refusal_is_itself() -> None:
    told = refused(f"y = {RESIZE}(x, , scales)")
    assert type(told) is CompileError
    assert told.code == "E0402"


def test_a_guess_is_refused_nothing() -> None:
    # What the refused node would have made is known to nobody, so its shape decides nothing.
    told = refused(f"""
        a = {RESIZE}(x, , scales)
        shape = Shape(a)
        wrong = Constant<value_ints = [7, 7]>()
        b = Reshape(a, wrong)
        c = Concat<axis = 0>(shape, axes)
        d = ReduceSum(x, c)
        y = Sum(b, d)
    """)
    assert codes(told) == ["E0402"]


def test_many_refusals_are_counted() -> None:
    body = "\n".join(f"a{i} = {RESIZE}(x, , scales)" for i in range(30))
    told = refused(f"{body}\ny = Relu(a0)")
    assert len(codes(told)) == 21
    assert "10 more refusals are not shown" in str(told)


def test_a_refusal_inside_of_a_branch_does_not_end_the_look() -> None:
    told = refused(
        f"""
        a = If(c) <
            then_branch = t () => (p) {{ p = {RESIZE}(x, , scales) }},
            else_branch = e () => (q) {{ q = acme.Frob(x) }} >
        b = {RESIZE}(x, , scales)
        y = Neg(b)
    """,
        inputs="float[4, 4, 5, 5] x, bool c",
    )
    assert codes(told) == ["E0401", "E0402", "E0402"]


def test_inputs_that_must_be_known_are_named_all_at_once() -> None:
    body = "a = ReduceSum(x, first) b = ReduceSum(x, second) y = Sum(a, b)"
    inputs = "float[2, 3] x, int64[1] first, int64[1] second"
    told = refused(body, inputs=inputs)
    assert isinstance(told, NotKnown)
    assert told.inputs == ("first", "second")
    made: list[onnx.ModelProto] = []

    def engine(model: onnx.ModelProto) -> Any:
        module = import_model(load_model(model))
        made.append(model)
        return partial(evaluate, module)

    rep = Rep(parsed(body, inputs), engine)
    (y,) = rep.run([np.ones((2, 3), "f"), np.array([0]), np.array([0])])
    np.testing.assert_array_equal(y, np.full((1, 3), 4))
    assert len(made) == 1

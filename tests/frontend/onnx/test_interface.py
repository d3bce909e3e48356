"""What a user sees of an import: names, ranges, refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError, CompileErrors
from tapeout.ir.types import spec

Import = Callable[..., Any]

ADD = "g (float[batch, 3] x, float[batch, 3] y) => (z) { z = Add(x, y) }"


def symbols(model: Any) -> dict[str, Any]:
    entry = next(model.module.entries())
    found = {s for a in entry.body.block.args for d in spec(a).dims for s in d.symbols()}
    return {s.name: (s.lo, s.hi) for s in found}


def test_equal_names_are_one_symbol_from_one_up(imported: Import):
    model = imported(ADD)
    assert model.inputs == ["batch, 3", "batch, 3"]
    assert symbols(model) == {"batch": (1, None)}


def test_a_range_is_taken_and_a_number_fixes_the_size(imported: Import):
    assert symbols(imported(ADD, dims={"batch": (0, 8)})) == {"batch": (0, 8)}
    assert imported(ADD, dims={"batch": 4}).inputs == ["4, 3", "4, 3"]


@pytest.mark.parametrize("dims", [{"B": 3}, {"batch": (4, 2)}, {"batch": (-1, 2)}])
def test_a_range_that_cannot_be_is_refused(imported: Import, dims: dict[str, Any]):
    with pytest.raises(CompileError, match="E0103"):
        imported(ADD, dims=dims)


@pytest.mark.parametrize("name", ["*/ evil", "min", "d0", "a" * 40])
def test_unsafe_names_of_dimensions_never_reach_the_ir(name: str):
    info = [helper.make_tensor_value_info(n, 1, [name]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", info[:1], info[1:])
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    entry = next(import_model(load_model(model)).entries())
    assert str(spec(entry.body.block.args[0]).dims[0]) == "d0"


def test_a_position_table_limits_the_length(imported: Import):
    text = """
    g (float[S, 4] x) => (y) {
        shape = Constant<value_ints = [512, 4]>()
        table = ConstantOfShape(shape)
        size = Shape<start = 0, end = 1>(x)
        zero = Constant<value_ints = [0]>()
        rows = Slice(table, zero, size)
        y = Add(x, rows)
    }"""
    assert symbols(imported(text)) == {"S": (1, 512)}
    assert imported(text).outputs == ["S, 4"]
    assert symbols(imported(text, dims={"S": (1, 64)})) == {"S": (1, 64)}
    with pytest.raises(CompileError, match="at most 512"):
        imported(text, dims={"S": (1, 1024)})


def test_every_unsupported_operator_is_told_at_once(imported: Import):
    with pytest.raises(CompileErrors) as refusal:
        imported("""
        g (float[N] x, bool c) => (y) {
            a = Unheard(x)
            b = Of(a)
            y = If(c) <then_branch = t () => (p) { p = Unheard(b) },
                       else_branch = e () => (q) { q = Neg(b) }>
        }""")
    codes = [e.code for e in refusal.value.errors]
    assert codes == ["E0401", "E0401"]
    text = str(refusal.value)
    assert "'Unheard'" in text
    assert "'Of'" in text
    assert text.count("node #0") == 2


def test_a_refusal_names_the_node(imported: Import):
    with pytest.raises(CompileError, match="E0201") as refusal:
        imported("g (float[3] x, float[4] y) => (z) { z = Add(x, y) }")
    assert ("where", "node #0 (Add)") in refusal.value.facts


def test_a_sequence_leaves_as_its_items(imported: Import):
    model = imported("""
    g (float[4] x) => (seq(float[N]) parts) {
        two = Constant<value_int = 2>()
        parts = SplitToSequence(x, two)
    }""")
    first, second = model.run(x=np.arange(4, dtype="f"))
    np.testing.assert_array_equal(first, [0, 1])
    np.testing.assert_array_equal(second, [2, 3])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("g (string[N] x) => (y) { y = Identity(x) }", "E0402"),
        ("g (seq(float[N]) x) => (y) { y = SequenceLength(x) }", "E0406"),
        ("g (float x, int64[1] axes) => (y) { y = Unsqueeze(x, axes) }", "E0405"),
        ("g (float[4] x) => (y) { y = Flatten<axis = 3>(x) }", "E0202"),
        ("g (float[4] x) => (y) { y = MatMul(x) }", "E0310"),
        ("g (float[4] x) => (y) { y = Neg(x, x) }", "E0310"),
        ("g (float[4] x) => (y) { y = Flatten<axis = 'one'>(x) }", "E0310"),
    ],
)
def test_what_cannot_be_compiled_has_a_code(imported: Import, text: str, code: str):
    with pytest.raises(CompileError, match=code):
        imported(text.replace("'", '"'))

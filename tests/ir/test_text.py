"""Text: printing, parsing and printing again gives the same text and the same module."""

from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Block, Region
from xdsl.parser import Parser
from xdsl.printer import Printer

from tapeout.ir.dialect import context
from tapeout.ir.dtypes import DTYPES, boolean, f32, i64
from tapeout.ir.expr import as_expr, symbol
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.source import BindDimsOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, KernelOp, LoopOp, ReturnOp
from tapeout.ir.types import (
    ArrayAttr,
    Constant,
    FloatAttr,
    FloatsAttr,
    IntAttr,
    Spec,
    StrAttr,
    StrsAttr,
    TensorType,
)


def text_of(printed: ModuleOp | Attribute) -> str:
    out = StringIO()
    if isinstance(printed, Attribute):
        Printer(out).print_attribute(printed)
    else:
        Printer(out).print_op(printed)
    return out.getvalue()


def test_operators_survive_text(sample: Any) -> None:
    module, _ = sample.module()
    text = text_of(module.ir)
    parsed = Parser(context(), text).parse_module()
    parsed.verify()
    assert text_of(parsed) == text
    assert parsed.is_structurally_equivalent(module.ir)


def rank0(dtype: Any) -> TensorType:
    return TensorType.of((), dtype)


def structured() -> ModuleOp:
    """A kernel and its call, a branch, a loop, a weight and sizes bound by data."""
    size, count = symbol("S", 1, 64), symbol("count")
    line = TensorType.of((size,), f32)
    body = Block(arg_types=[line])
    negated = MapOp.make((body.args[0],), fn="neg")
    body.add_ops([negated, ReturnOp([negated.y])])
    kernel = KernelOp("k0", Region(body))

    inputs = [("x", line.data), ("n", Spec((), i64)), ("go", Spec((), boolean))]
    entry = EntryOp("main", [*inputs, ("sizes", Spec((as_expr(1),), i64))], ["a/0", 'b\n"é'])
    x, trips, go, sizes = entry.body.block.args
    called = CallOp("k0", [x], [line])
    sides = [Region(Block([ReturnOp([x])])), Region(Block([ReturnOp([called.results[0]])]))]
    branch = IfOp(go, sides[0], sides[1], [line])
    turn = Block(arg_types=[rank0(i64), rank0(boolean), line])
    turn.add_op(ReturnOp([turn.args[1], turn.args[2], turn.args[2]]))
    stacked = TensorType.of((count, size), f32)
    loop = LoopOp(trips, go, [branch.ys[0]], Region(turn), [line, stacked], count, 1)
    weight = WeightOp.make(symbol="w0", shape=(as_expr(3),), dtype="f32")
    bound = BindDimsOp.make(sizes, symbols=(symbol("extra"),))
    entry.body.block.add_ops([called, branch, loop, weight, bound, ReturnOp(loop.ys)])
    return ModuleOp([kernel, entry])


def test_kernels_branches_and_loops_survive_text() -> None:
    module = structured()
    module.verify()
    text = text_of(module)
    parsed = Parser(context(), text).parse_module()
    parsed.verify()
    assert text_of(parsed) == text
    assert parsed.is_structurally_equivalent(module)


def reparsed(attribute: Attribute) -> Attribute:
    return Parser(context(), text_of(attribute)).parse_attribute()


@given(st.text(), st.lists(st.text()))
def test_any_name_of_a_model_survives_text(name: str, names: list[str]) -> None:
    assert reparsed(StrAttr(name)) == StrAttr(name)
    assert reparsed(StrsAttr(tuple(names))) == StrsAttr(tuple(names))


@given(st.floats(allow_nan=False), st.lists(st.floats(allow_nan=False)), st.integers())
def test_every_number_survives_text(number: float, numbers: list[float], whole: int) -> None:
    assert reparsed(FloatAttr(number)) == FloatAttr(number)
    assert reparsed(FloatsAttr(tuple(numbers))) == FloatsAttr(tuple(numbers))
    assert reparsed(IntAttr(whole)) == IntAttr(whole)


@pytest.mark.parametrize(
    "dtype", [t for t in DTYPES.values() if t.kind != "string"], ids=lambda t: t.name
)
def test_a_literal_of_every_element_type_survives_text(dtype: Any) -> None:
    values = np.array([[0, 1, 1], [0.5, 1, 0]]).astype(dtype.numpy)
    attribute = ArrayAttr(Constant(values))
    parsed = reparsed(attribute)
    assert parsed == attribute
    assert TensorType.of((2, 3), dtype) == reparsed(TensorType.of((2, 3), dtype))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4028235e38])
def test_special_floats_survive_text_bit_by_bit(value: float) -> None:
    literal = Constant(np.array(value, np.float32))
    assert reparsed(ArrayAttr(literal)) == ArrayAttr(literal)

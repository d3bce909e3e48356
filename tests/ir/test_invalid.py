"""What is refused: wrong shapes and types with coded errors, wrong IR by the verifier."""

from collections.abc import Callable
from typing import Any

import pytest
from xdsl.dialects import test as opaque
from xdsl.ir import SSAValue
from xdsl.utils.exceptions import VerifyException

from tapeout.ir.dialect import operators
from tapeout.ir.dtypes import bf16, boolean, f32, i8, i32, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import as_expr, symbol
from tapeout.ir.op import NNOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.scalars import SCALARS
from tapeout.ir.types import FlagAttr, IntAttr, TensorType

S = symbol("S", 1, 64)
CONV = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
POOL = {"kernel": (2, 2), "sizes": (as_expr(1),) * 2, **CONV}


def value(*dims: Any, dtype: Any = f32) -> SSAValue:
    return opaque.TestOp(result_types=[TensorType.of(dims, dtype)]).results[0]


def make(name: str, *operands: Any, **attrs: Any) -> NNOp:
    cls = operators()[name]
    assert issubclass(cls, NNOp)
    return cls.make(*operands, **attrs)


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("E0201", lambda: make("nn.map", (value(2), value(3)), fn="add")),
    ("E0201", lambda: make("nn.map", (value(S + 1), value(S)), fn="add")),
    ("E0201", lambda: make("nn.expand", value(2), shape=(as_expr(3),))),
    ("E0202", lambda: make("nn.softmax", value(2, 3), axis=2)),
    ("E0202", lambda: make("nn.softmax", value(), axis=0)),
    ("E0202", lambda: make("nn.reduce", value(2), fn="sum", axes=(-2,))),
    ("E0202", lambda: make("nn.gather", value(2), value(1, dtype=i64), axis=1)),
    ("E0202", lambda: make("nn.transpose", value(2, 3), perm=(0, 0))),
    ("E0203", lambda: make("nn.matmul", value(2, 3), value(3, 2, dtype=bf16))),
    ("E0203", lambda: make("nn.matmul", value(2, 3), value(3, 2), to=bf16)),
    ("E0203", lambda: make("nn.rms_norm", value(2), value(2, dtype=bf16), epsilon=1e-5)),
    ("E0203", lambda: make("nn.scatter_nd", value(2), value(1, 1, dtype=i64), value(1, dtype=i64))),
    ("E0204", lambda: make("nn.reshape", value(S, 2), shape=(S, as_expr(3)))),
    ("E0205", lambda: make("nn.concat", (value(2, 3), value(3, 3)), axis=1)),
    ("E0206", lambda: make("nn.matmul", value(2, 3), value(4, 5))),
    (
        "E0207",
        lambda: make("nn.conv", value(1, 4, 5, 5), value(3, 2, 1, 1), None, groups=2, **CONV),
    ),
    (
        "E0207",
        lambda: make(
            "nn.conv_transpose",
            value(1, 4, 5, 5),
            value(3, 2, 1, 1),
            None,
            output_padding=(0, 0),
            **CONV,
        ),
    ),
    ("E0209", lambda: make("nn.layer_norm", value(2, 8), value(2, 8), None, epsilon=1e-5)),
    (
        "E0209",
        lambda: make(
            "nn.attention", value(1, 4, S, 8), value(1, 3, S, 8), value(1, 3, S, 8), None, scale=1.0
        ),
    ),
    (
        "E0209",
        lambda: make(
            "nn.attention", value(1, 4, S, 8), value(1, 4, S, 6), value(1, 4, S, 8), None, scale=1.0
        ),
    ),
    (
        "E0209",
        lambda: make(
            "nn.attention", *(value(1, 4, S, 8) for _ in range(3)), value(2, S, S), scale=1.0
        ),
    ),
    ("E0209", lambda: make("nn.gather_nd", value(2, 3), value(4, 3, dtype=i64))),
    ("E0209", lambda: make("nn.scatter_elements", value(4), value(2, dtype=i64), value(3))),
    ("E0209", lambda: make("nn.pool", value(1, 2, 3), fn="max", **POOL)),
    ("E0209", lambda: make("nn.det", value(2, 3))),
    ("E0209", lambda: make("nn.resize", value(2, 3), sizes=(as_expr(3),))),
    ("E0209", lambda: make("nn.grid_sample", value(1, 2, 3, 4), value(1, 5, 5, 3))),
    (
        "E0209",
        lambda: make(
            "nn.rnn", value(4, 2, 5), value(3, 5), value(3, 2), None, None, None, hidden=3
        ),
    ),
    (
        "E0209",
        lambda: make(
            "nn.gru", value(4, 2, 5), value(9, 5), value(9, 3), None, None, value(1, 3), hidden=3
        ),
    ),
    ("E0210", lambda: make("nn.softmax", value(2, dtype=i64), axis=0)),
    ("E0210", lambda: make("nn.gather", value(2), value(1), axis=0)),
    ("E0210", lambda: make("nn.gather", value(2), value(1, dtype=i8), axis=0)),
    ("E0210", lambda: make("nn.reduce", value(2), fn="any", axes=(0,))),
    ("E0210", lambda: make("nn.reduce", value(2, dtype=boolean), fn="sum", axes=(0,))),
    ("E0210", lambda: make("nn.map", (value(2, dtype=i32), value(2), value(2)), fn="where")),
    ("E0210", lambda: make("nn.bitcast", value(2), to=i64)),
    ("E0211", lambda: make("nn.rotary", value(1, 2, S, 7), value(S, 3), value(S, 3))),
    (
        "E0211",
        lambda: make("nn.rotary", value(1, 2, S, 8), value(S, 5), value(S, 5), rotary_dim=10),
    ),
    ("E0211", lambda: make("nn.gather_nd", value(2, 3), value(4, S, dtype=i64))),
]


@pytest.mark.parametrize(
    ("code", "build"), REFUSED, ids=[f"{i}-{code}" for i, (code, _) in enumerate(REFUSED)]
)
def test_a_wrong_operator_is_refused_with_its_code(code: str, build: Callable[[], object]) -> None:
    with pytest.raises(CompileError) as caught:
        build()
    assert caught.value.code == code
    assert str(caught.value)


@pytest.mark.parametrize("fn", ["exp", "sqrt", "tanh", "floor", "is_nan", "gelu"])
def test_float_functions_refuse_integers_and_bools(fn: str) -> None:
    for dtype in (i32, boolean):
        with pytest.raises(CompileError, match="E0210"):
            MapOp.make((value(2, dtype=dtype),), fn=fn)


@pytest.mark.parametrize("fn", ["not", "and", "or", "xor", "shift_left"])
def test_bit_functions_refuse_floats(fn: str) -> None:
    with pytest.raises(CompileError, match="E0210"):
        MapOp.make((value(2),) * SCALARS[fn].arity, fn=fn)


def test_arithmetic_refuses_bools() -> None:
    with pytest.raises(CompileError, match="E0210"):
        MapOp.make((value(2, dtype=boolean),) * 2, fn="add")


def test_a_result_type_that_is_not_inferred_is_invalid() -> None:
    op = make("nn.reduce", value(2, 3), fn="sum", axes=(1,))
    op.properties["keepdims"] = FlagAttr(True)
    with pytest.raises(VerifyException, match="infers"):
        op.verify()


def test_a_property_of_another_kind_is_invalid() -> None:
    op = make("nn.softmax", value(2, 3), axis=1)
    op.properties["axis"] = FlagAttr(True)
    with pytest.raises(VerifyException):
        op.verify()


def test_a_property_that_is_left_out_is_a_fault_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="axis"):
        make("nn.softmax", value(2, 3))


def test_a_property_that_does_not_exist_is_a_fault_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="axes"):
        make("nn.softmax", value(2, 3), axis=1, axes=IntAttr(1))
